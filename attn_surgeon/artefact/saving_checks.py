"""Check that a network can be saved: its tensors are plain, and it is the operated network, not a converted one."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from attn_surgeon.errors import ArtefactError, LostGraftError
from attn_surgeon.surgery.rewrite.grafts import RESERVED

_OF_A_GRAFT = re.compile(rf"(^|[._]){RESERVED}[._](after|before)")


def require_plain_values(model: nn.Module) -> None:
    """Raise ArtefactError for a network that is sharded, offloaded or quantised."""
    sharding: Any = sys.modules.get("torch.distributed.tensor")
    if sharding is not None and any(isinstance(parameter, sharding.DTensor) for parameter in model.parameters()):
        what = "the network is sharded over processes, so no process has all its weights"
        hint = "gather them with torch.distributed.checkpoint.state_dict into a network that is not, and save that"
        raise ArtefactError(what, "", hint)
    for name, tensor in model.state_dict().items():
        if isinstance(tensor, Tensor) and (tensor.is_meta or type(tensor) not in (Tensor, nn.Parameter)):
            state = "on the meta device" if tensor.is_meta else f"a {type(tensor).__name__}"
            what = f"{name} has no plain values to save: it is {state}"
            raise ArtefactError(what, "", "save the network before it is offloaded, quantised or sharded")


def require_no_graft_weights(base: Mapping[str, Tensor]) -> None:
    """Raise LostGraftError where a network has grafts' weights but no grafts, as scripted and exported networks do."""
    unknown = next((name for name in base if _OF_A_GRAFT.search(name)), None)
    if unknown is not None:
        what = f"the network has weights of attn_surgeon's grafts, such as {unknown}, but is not the one operated on"
        raise LostGraftError(what, "", "save that one; what was traced, scripted or exported of it has its own format")
