"""One module's own forward: traced, rewritten with grafts in it, and put back."""
