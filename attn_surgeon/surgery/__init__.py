"""The surgery engine: it knows modules and graphs, no block and no file format."""
