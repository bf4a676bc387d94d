"""The command line: one file per command. Nothing here is needed to use the library."""
