"""Where a network comes from: its name or factory, its weights, and what it expects of its images."""

from attn_surgeon.networks.loading import DEFAULT_PREPROCESSING, Loaded, build, load_source, model_names
from attn_surgeon.networks.parsing import parse_source
from attn_surgeon.networks.source import Scalar, SourceSpec

__all__ = [
    "DEFAULT_PREPROCESSING",
    "Loaded",
    "Scalar",
    "SourceSpec",
    "build",
    "load_source",
    "model_names",
    "parse_source",
]
