"""Methods of libraries' networks that an operated class overrides, because they would lose grafts."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from attn_surgeon.surgery.rewrite.folding import unfoldable_hidden


def library_methods(base: type[Any]) -> dict[str, Callable[..., Any]]:
    """Return the methods that override those of a class, by name.

    They are `save_pretrained` of transformers, and `fuse` and `is_fused` of YOLOs.
    """
    makers = {"save_pretrained": _warning, "fuse": _not_fusing_grafts, "is_fused": _not_fusing_grafts}
    found = {name: method for name in makers if callable(method := getattr(base, name, None))}
    return {name: makers[name](method) for name, method in found.items()}


def _warning(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a `save_pretrained` that warns, since `from_pretrained` rebuilds a network from its configuration."""

    def save_pretrained(self: Any, *args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            "from_pretrained builds this network from its configuration, without attn_surgeon's grafts: insert them "
            "into the network that it returns and load the state dict again, or save with attn_surgeon.save",
            stacklevel=2,
        )
        return original(self, *args, **kwargs)

    return save_pretrained


def _not_fusing_grafts(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that does not see layers that would lose a graft if they were fused."""

    @functools.wraps(original)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        with unfoldable_hidden(self):
            return original(self, *args, **kwargs)

    return method
