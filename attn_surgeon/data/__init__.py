"""Open, check, split and augment image data: folders, masks, named datasets of timm, shards, demo datasets."""
