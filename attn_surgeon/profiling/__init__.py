"""What a network costs to run: parameters, MACs, memory and time, by runtime and by graft."""
