"""Build pretrained networks from a name or factory, load their weights, and find their preprocessing."""

from attn_surgeon.networks import sources as _registered  # noqa: F401 - importing them registers them
from attn_surgeon.networks.loading import build_network, load_source
from attn_surgeon.networks.preprocessing import DEFAULT_PREPROCESSING
from attn_surgeon.networks.source import Loaded, Scalar, Source, SourceSpec, register_source
from attn_surgeon.networks.source_names import model_names, parse_source

__all__ = [
    "DEFAULT_PREPROCESSING",
    "Loaded",
    "Scalar",
    "Source",
    "SourceSpec",
    "build_network",
    "load_source",
    "model_names",
    "parse_source",
    "register_source",
]
