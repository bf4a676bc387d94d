"""A small pretrained network and two datasets, which come with the package."""

from attn_surgeon.networks.demo.digits import CLASS_NAMES, DEMO_DATASETS, DEMO_PREPROCESSING, MEAN, SIZE, STD, digits
from attn_surgeon.networks.demo.network import demo, load_demo

__all__ = [
    "CLASS_NAMES",
    "DEMO_DATASETS",
    "DEMO_PREPROCESSING",
    "MEAN",
    "SIZE",
    "STD",
    "demo",
    "digits",
    "load_demo",
]
