"""Selectors: dotted paths and node names, and globs over them, that choose sites.

`*` and `?` stay within one part of a dotted path, `**` crosses dots, `[34]`, `{a,b}` and `{1..5}` choose among parts.
One of several tensors at a place is named with a colon, `backbone:0`, and only a selector with a colon chooses it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from attn_surgeon.errors import SelectorError, function, nearest
from attn_surgeon.surgery.sites.site import Site

LIST_SITES = function("find_sites(network, example)", "inspect NETWORK")
_GLOB = re.compile(r"\*\*|\*|\?|\[[^\]]*\]|\{[^}]*\}")
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


def select(sites: Sequence[Site], selector: str, unused: Sequence[str] = ()) -> list[Site]:
    """Return the sites that a selector matches, in the order of execution.

    `unused` are modules that the example run never called. Raises SelectorError with the nearest names where no site
    matches.
    """
    pattern = _compile(selector)
    chosen = [site for site in sites if pattern.fullmatch(site.name) and (":" in selector or not site.is_item)]
    if not chosen and any(pattern.fullmatch(name) for name in unused):
        hint = "it may run in train mode only, or not at all"
        raise SelectorError(f"'{selector}' is there, but is not called in eval mode", "", hint)
    if not chosen:
        hint = nearest(selector, [site.name for site in sites])
        raise SelectorError(
            f"no site is called '{selector}'",
            f"the network has {len(sites)} sites",
            hint or f"list them with {LIST_SITES}",
        )
    return chosen


def is_within(name: str, selector: str) -> bool:
    """Return whether a site is what a selector names, or inside it; raise SelectorError for an invalid pattern."""
    return re.fullmatch(f"(?:{_compile(selector).pattern})(?:[.:].*)?", name) is not None


def matches(name: str, selector: str) -> bool:
    """Return whether a selector matches a site's name; raise SelectorError for an invalid pattern."""
    return _compile(selector).fullmatch(name) is not None


def _compile(selector: str) -> re.Pattern[str]:
    try:
        return re.compile(_to_regex(selector))
    except re.error as error:
        what = f"'{selector}' is an invalid pattern: {error}"
        raise SelectorError(what, "", "ranges run upwards: [0-9], [a-z]") from None


def _to_regex(selector: str) -> str:
    parts, end = [], 0
    for glob in _GLOB.finditer(selector):
        parts += [re.escape(selector[end : glob.start()]), _glob_to_regex(glob.group())]
        end = glob.end()
    return "".join([*parts, re.escape(selector[end:])])


def _glob_to_regex(glob: str) -> str:
    if glob.startswith("["):
        inside = glob[1:-1].replace("\\", "\\\\")
        return f"[{'^' + inside[1:] if inside.startswith('!') else inside}]" if inside else re.escape(glob)
    if numbers := _RANGE.fullmatch(glob):
        return "(?:" + "|".join(map(str, range(int(numbers[1]), int(numbers[2]) + 1))) + ")"
    if glob.startswith("{"):
        return "(?:" + "|".join(_to_regex(choice) for choice in glob[1:-1].split(",")) + ")"
    return {"**": ".*", "*": "[^.:]*", "?": "[^.:]"}[glob]
