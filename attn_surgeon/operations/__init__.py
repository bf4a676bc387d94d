"""Insert blocks into a network and remove them: the engine of surgery/ with the catalogue of blocks/."""
