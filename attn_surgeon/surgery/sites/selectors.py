"""Choose sites by text: a dotted path, a node name, or a glob over them.

`*` and `?` stay within one part of a dotted path, `**` crosses dots, `[34]`, `{a,b}` and `{1..5}` choose among parts.
One of several tensors at a place is named with a colon, `backbone:0`, and only a selector with a colon chooses it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attn_surgeon.errors import SelectorError, nearest
from attn_surgeon.surgery.sites.site import Site

_GLOB = re.compile(r"\*\*|\*|\?|\[[^\]]*\]|\{[^}]*\}")
_COUNTED = re.compile(r"\{(\d+)\.\.(\d+)\}")


def select(sites: Sequence[Site], selector: str, unused: Sequence[str] = ()) -> list[Site]:
    """Choose the sites a selector names, in the order of execution.

    `unused` are modules that the example run never called. Raises SelectorError with the nearest names where none
    is named.
    """
    pattern = _compiled(selector)
    chosen = [site for site in sites if pattern.fullmatch(site.name) and (":" in selector or not site.is_item)]
    if not chosen and any(pattern.fullmatch(name) for name in unused):
        hint = "it may run in train mode only, or not at all"
        raise SelectorError(f"'{selector}' is there, but is not called in eval mode", "", hint)
    if not chosen:
        hint = nearest(selector, [site.name for site in sites])
        raise SelectorError(
            f"no site is called '{selector}'",
            f"the network has {len(sites)} sites",
            hint or "list them with: attn-surgeon inspect NETWORK",
        )
    return chosen


def is_within(name: str, selector: str) -> bool:
    """Say whether a site is what a selector names, or inside it; raise SelectorError where it is no pattern."""
    return re.fullmatch(f"(?:{_compiled(selector).pattern})(?:[.:].*)?", name) is not None


def matches(name: str, selector: str) -> bool:
    """Say whether a site's name fits a selector; raise SelectorError where it is no pattern."""
    return _compiled(selector).fullmatch(name) is not None


def _compiled(selector: str) -> re.Pattern[str]:
    try:
        return re.compile(_pattern(selector))
    except re.error as error:
        raise SelectorError(f"'{selector}' is no pattern: {error}", "", "ranges run upwards: [0-9], [a-z]") from None


def _pattern(selector: str) -> str:
    parts, end = [], 0
    for glob in _GLOB.finditer(selector):
        parts += [re.escape(selector[end : glob.start()]), _part(glob.group())]
        end = glob.end()
    return "".join([*parts, re.escape(selector[end:])])


def _part(glob: str) -> str:
    if glob.startswith("["):
        inside = glob[1:-1].replace("\\", "\\\\")
        return f"[{'^' + inside[1:] if inside.startswith('!') else inside}]" if inside else re.escape(glob)
    if counted := _COUNTED.fullmatch(glob):
        return "(?:" + "|".join(map(str, range(int(counted[1]), int(counted[2]) + 1))) + ")"
    if glob.startswith("{"):
        return "(?:" + "|".join(_pattern(choice) for choice in glob[1:-1].split(",")) + ")"
    return {"**": ".*", "*": "[^.:]*", "?": "[^.:]"}[glob]
