"""Where a network comes from: its name or factory, its weights, and what it expects of its images."""

from attn_surgeon.sources.loading import Loaded, build, load_source, model_names
from attn_surgeon.sources.parsing import parse_source
from attn_surgeon.sources.spec import Scalar, SourceSpec

__all__ = ["Loaded", "Scalar", "SourceSpec", "build", "load_source", "model_names", "parse_source"]
