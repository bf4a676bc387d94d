"""Sites, the places in a network where blocks can be inserted: their names, layouts and groups."""
