"""A pretrained network and two tasks, small enough to ship, to try every operation on."""

from attn_surgeon.networks.demo.digits import CLASS_NAMES, DEMO_PREPROCESSING, MEAN, SIZE, STD, TASKS, digits
from attn_surgeon.networks.demo.network import demo, load_demo

__all__ = [
    "CLASS_NAMES",
    "DEMO_PREPROCESSING",
    "MEAN",
    "SIZE",
    "STD",
    "TASKS",
    "demo",
    "digits",
    "load_demo",
]
