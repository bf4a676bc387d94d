"""Networks of the user's own: a factory in a file or in a module."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from attn_surgeon.errors import SourceError
from attn_surgeon.networks.calls import check_arguments
from attn_surgeon.networks.source import Scalar
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.user_code import found


def from_factory(name: str, args: Mapping[str, Scalar]) -> nn.Module:
    """Build a network with the factory that `FILE.py:FACTORY` or `package.module:FACTORY` names."""
    with found(name, SourceError) as factory:
        if isinstance(factory, nn.Module):
            check_arguments(lambda: None, args, name)
            return copied(factory)  # the module stays imported; its own network must stay as it is
        check_arguments(factory, args, name)
        model = factory(**args)
        if isinstance(model, nn.Module):
            return model
        raise SourceError(f"the factory returned {type(model).__name__}, not a network", name)
