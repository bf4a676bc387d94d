"""Open data: folders of images, datasets and shards as timm names them, and the packaged demo tasks."""

from __future__ import annotations

from attn_surgeon.data.folders import SPLITS, SUFFIXES, images_in
from attn_surgeon.data.images import ImageData, Pictures, as_known, read_image, relabelled
from attn_surgeon.data.opening import HERE, Place, has_parts, open_dataset, open_pictures

__all__ = [
    "HERE",
    "SPLITS",
    "SUFFIXES",
    "ImageData",
    "Pictures",
    "Place",
    "as_known",
    "has_parts",
    "images_in",
    "open_dataset",
    "open_pictures",
    "read_image",
    "relabelled",
]
