"""Other people's trainers, such that they keep grafts. Each needs the extra of its name."""
