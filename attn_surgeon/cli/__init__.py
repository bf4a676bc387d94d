"""The command line: one file per verb. Nothing here is needed to use the library."""
