"""Groups of torch functions, under the normalised names by which recorded events and graph nodes are compared."""

from __future__ import annotations

import re

_ARITHMETIC = ("add", "sub", "mul", "truediv", "div", "matmul", "pow", "floordiv", "mod")
_SYNONYMS = {"truediv": "div", "floordiv": "floor_divide", "mod": "remainder"}

CATS = ("cat", "concat", "concatenate", "stack")
NORMS = ("batch_norm", "layer_norm", "group_norm", "instance_norm", "rms_norm", "sync_batch_norm")
ACTIVATIONS = (
    *("relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "selu", "gelu", "silu", "mish"),
    *("hardswish", "hardtanh", "softplus", "glu"),
)
ATTENTION = re.compile(r"matmul|mm$|einsum|attention|multi_head")
RESHAPES = (
    *("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "transpose", "permute", "movedim", "swapaxes"),
    *("contiguous", "clone", "to", "mul", "div"),
)


def plain_name(name: str) -> str:
    """Return the normalised name of a function or operator: `__radd__`, `iadd` and `add_` are all `add`."""
    name = name.strip("_")
    plain = name[1:] if name[:1] in ("i", "r") and name[1:] in _ARITHMETIC else name
    return _SYNONYMS.get(plain, plain)
