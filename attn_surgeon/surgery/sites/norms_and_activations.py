"""Find the norms and activations after a site, which deployment tools fuse into the layer before.

A graft between a convolution and its norm takes other values once the norm is fused into the convolution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from attn_surgeon.surgery import running
from attn_surgeon.surgery.observe.observe import Observation
from attn_surgeon.surgery.sites.site import Site


def is_foldable(module: nn.Module) -> bool:
    """Return whether a module is a norm with running statistics or an activation."""
    kinds = type(module).__mro__
    return any("BatchNorm" in kind.__name__ or kind.__module__ == "torch.nn.modules.activation" for kind in kinds)


def followers(seen: Observation, outputs: Iterable[tuple[Tensor, Site]]) -> Mapping[str, tuple[str, ...]]:
    """Return the paths of the foldable modules that take the output of each site, by the site's name.

    Args:
        seen: the run.
        outputs: tensors with the sites that they flow after.
    """
    takers: dict[int, list[str]] = {}
    for path, calls in seen.calls.items():
        if is_foldable(seen.module(path)):
            for call in calls:
                given = next(iter(running.tensors([*call.args, *call.kwargs.values()])), None)
                takers.setdefault(id(given), []).append(path)
    found: dict[str, dict[str, None]] = {}
    for value, site in outputs:
        found.setdefault(site.name, {}).update(dict.fromkeys(takers.get(id(value), ())))
    return {name: tuple(paths) for name, paths in found.items()}
