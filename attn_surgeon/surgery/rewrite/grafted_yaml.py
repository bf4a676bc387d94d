"""The YAML of a network with grafts, which raises where a network without them is built from it.

YOLOs keep the table that they were built from as `yaml`. Their trainers build a new network from it, and copy what fits
of the weights; the grafts would be lost without a word.
"""

from __future__ import annotations

import copy
from typing import Any

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.assigned_networks import watch_assignments


class GraftedYaml(dict[Any, Any]):
    """A table that is copied together with its network, but not alone: trainers do so only to build a new network."""

    def __deepcopy__(self, memo: dict[int, Any]) -> GraftedYaml:
        if not memo:  # a copy of the network has a memo by now
            raise LostGraftError(
                "a network built from this YAML would be without attn_surgeon's grafts",
                "",
                "train with YOLO of attn_surgeon.integrations.ultralytics, or insert into the network that is built",
            )
        return GraftedYaml(copy.deepcopy(dict(self), memo))


def guard_yaml(attributes: dict[str, Any], *, grafted: bool) -> None:
    """Replace the YAML among the attributes of a module by one that raises, or by the plain one again."""
    yaml = attributes.get("yaml")
    if isinstance(yaml, dict) and isinstance(yaml, GraftedYaml) != grafted:
        attributes["yaml"] = GraftedYaml(yaml) if grafted else dict(yaml)
        if grafted:
            watch_assignments()
