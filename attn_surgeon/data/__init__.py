"""Data: folders of images and masks, datasets and shards as timm names them, and the packaged demo datasets."""
