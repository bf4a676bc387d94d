"""Prepare the initial network of each training run: untrained weights are drawn again for each seed."""

from __future__ import annotations

from dataclasses import replace

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.operations.block_fitting import identity_grafts, redraw_grafts
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.tasks.head import redraw_head


def with_seed(network: LoadedNetwork, seed: int) -> LoadedNetwork:
    """Return a copy of a network with a new head and grafts drawn with another seed.

    Grafts that are not the identity keep their weights, which may be trained; so does a head that was not replaced.
    """
    model = set_provenance(copied(network.model), network.provenance)
    redraw_head(replace(network, model=model), seed)
    redraw_grafts(model, seed)
    return replace(network, model=model)


def describe_seeds(network: LoadedNetwork) -> dict[str, list[str]]:
    """Return, as text, what varies between training runs of several seeds (`vary`) and what does not (`same`)."""
    drawn, grafts = len(identity_grafts(network.model)), len(list_grafts(network.model))
    varies, same = ["order and augmentation of the training images"], ["training and validation images"]
    (varies if network.fresh else same).append("head")
    if drawn:
        varies.append("initial weights of the grafts" if drawn == grafts else f"initial weights of {drawn} grafts")
    if grafts > drawn:
        same.append(f"initial weights of grafts that are not the identity ({grafts - drawn})")
    return {"vary": varies, "same": same}
