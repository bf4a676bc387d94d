"""What cases are drawn from: plain values that are rarely right, and changes to data and bytes that are."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

ODD_NUMBERS = [0, 1, -1, 2, 3, 255, 256, 2**15, 2**31 - 1, 2**31, -(2**31), 2**63, -(2**63), 10**10, 10**30, 10**400]
ODD_FLOATS = [0.5, -0.0, 1e-320, 1e308, -1e308, float("nan"), float("inf"), float("-inf")]
ODD_TEXTS = [
    "",
    " ",
    "..",
    "/",
    "x",
    "0",
    "-1",
    "1e9",
    "nan",
    "None",
    "null",
    "true",
    "..\\",
    "a\nb",
    "a\x00b",
    "\x1b[31m",
    "\ud800",
    "ü",
    "é" * 200,
    "x" * 5000,
    "NCHW",
    "NLC",
    "layer3",
    "**",
    "[",
    "{a,b}",
    "{1..99}",
    "se",
    "cbam",
    "se+se",
    "os:system",
    "surgeon_canary:run",
    "surgeon_canary.py:run",
    "__class__",
    "__init__",
    "forward",
    "load_state_dict",
    "import",
    "float32",
    "int8",
    "complex64",
    "meta",
    "cuda",
    "timm/resnet18",
    "tv/resnet18",
    "demo",
    "default",
    "../../etc/passwd",
    "/dev/zero",
    "http://localhost/x",
    "{0.__class__}",
    "%s%s%n",
]

texts = st.sampled_from(ODD_TEXTS) | st.text(max_size=20)
scalars: SearchStrategy[Any] = (
    st.none() | st.booleans() | st.sampled_from(ODD_NUMBERS + ODD_FLOATS) | st.integers() | st.floats() | texts
)
values: SearchStrategy[Any] = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=8
)


def places(data: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value in nested tables and lists."""
    yield path
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


@st.composite
def changed(draw: DrawFn, data: Any, most: int = 3) -> Any:
    """Draw plain data that differs from what is given in up to so many places."""
    found = copy.deepcopy(data)
    for _ in range(draw(st.integers(1, most))):
        path = draw(st.sampled_from(list(places(found))))
        if not path:
            found = draw(values) if draw(st.integers(0, 9)) == 0 else found
            continue
        inside = found
        for key in path[:-1]:
            inside = inside[key]
        what = draw(st.sampled_from(["value", "value", "value", "remove", "add", "twin"]))
        if what == "remove":
            del inside[path[-1]]
        elif what == "add" and isinstance(inside, dict):
            inside[draw(texts)] = draw(values)
        elif what == "twin":
            twin = copy.deepcopy(inside[path[-1]])
            inside[path[-1]] = [twin, twin] if draw(st.booleans()) else {"x": twin}
        else:
            inside[path[-1]] = draw(values)
    return found


@st.composite
def damaged(draw: DrawFn, content: bytes) -> bytes:
    """Draw bytes that differ from what is given: cut, overwritten, repeated, or with bytes put between."""
    found = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, max(0, len(found) - 1)))
        if draw(st.booleans()):  # heads and tails hold what decides
            at = min(at % 512, len(found)) if draw(st.booleans()) else max(0, len(found) - 1 - at % 512)
        match draw(st.sampled_from(["cut", "put", "flip", "insert", "drop", "repeat", "number"])):
            case "cut":
                del found[at:]
            case "put":
                new = draw(st.binary(min_size=1, max_size=8))
                found[at : at + len(new)] = new
            case "flip" if found:
                found[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                found[at:at] = draw(st.binary(max_size=16))
            case "drop":
                del found[at : at + draw(st.integers(1, 64))]
            case "repeat":
                found[at:at] = found[at : at + draw(st.integers(1, 256))]
            case "number":
                number = draw(st.sampled_from([0, 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1]))
                found[at : at + 8] = number.to_bytes(8, "little")
    return bytes(found)


def json_bytes(data: Any) -> bytes:
    """Return data as JSON, with what its standard does not have: infinities, NaN and lone surrogates."""
    return json.dumps(data).encode()
