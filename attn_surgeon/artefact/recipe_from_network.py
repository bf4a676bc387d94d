"""Build the recipe of an operated network, which is stored in its artefact."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from attn_surgeon.artefact.provenance import provenance_of
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.plan import Graft


def recipe_of(model: nn.Module) -> dict[str, Any]:
    """Return a network's source, preprocessing and grafts as a recipe's plain data."""
    provenance = provenance_of(model)
    stored = provenance.source.to_dict()
    recipe = {"source": {"name": provenance.source.text, "weights": stored["weights"], "args": stored["args"]}}
    if provenance.preprocessing is not None:
        images = provenance.preprocessing.to_dict()
        names = ("size",) if provenance.preprocessing.assumed else ("mean", "std", "size")
        recipe["images"] = {name: images[name] for name in names}
    return recipe | {"operations": _operations([item.graft for item in list_grafts(model)])}


def _operations(grafts: Sequence[Graft]) -> list[dict[str, Any]]:
    """Return grafts as operations; consecutive grafts of the same block on the same side become one."""
    operations: list[dict[str, Any]] = []
    for graft in grafts:
        block = {"block": graft.block["name"], "options": dict(graft.block["options"]), "init": graft.block["init"]}
        block |= {"with": graft.other} if graft.other else {}
        block |= {"layout": graft.layout} if graft.layout else {}
        last = operations[-1]["insert"] if operations else None
        if last is not None and {key: last[key] for key in last if key != graft.side} == block:
            last[graft.side].append(graft.site)
        else:
            operations.append({"insert": block | {graft.side: [graft.site]}})
    return operations
