"""The command `export`: its options, their checks, and what it prints."""
