"""Selectors: dotted paths and node names, and globs over them, that choose sites.

`*` and `?` stay within one part of a dotted path, `**` crosses dots, `[34]`, `{a,b}` and `{1..5}` choose among parts.
One of several tensors at a place is named with a colon, `backbone:0`, and only a selector with a colon chooses it.
"""

from __future__ import annotations

from collections.abc import Sequence

from attn_surgeon.errors import SelectorError, excerpt, function, nearest
from attn_surgeon.surgery.sites.pattern import compile_pattern
from attn_surgeon.surgery.sites.site import Site

LIST_SITES = function("find_sites(network, example)", "inspect NETWORK")


def select(sites: Sequence[Site], selector: str, unused: Sequence[str] = ()) -> list[Site]:
    """Return the sites that a selector matches, in the order of execution.

    `unused` are modules that the example run never called. Raises SelectorError with the nearest names where no site
    matches.
    """
    pattern = compile_pattern(selector)
    chosen = [site for site in sites if pattern.matches(site.name) and (":" in selector or not site.is_item)]
    if not chosen and any(pattern.matches(name) for name in unused):
        hint = "it may run in train mode only, or not at all"
        raise SelectorError(f"'{excerpt(selector)}' is there, but is not called in eval mode", "", hint)
    if not chosen:
        hint = nearest(selector, [site.name for site in sites])
        raise SelectorError(
            f"no site is called '{excerpt(selector)}'",
            f"the network has {len(sites)} sites",
            hint or f"list them with {LIST_SITES}",
        )
    return chosen


def is_within(name: str, selector: str) -> bool:
    """Return whether a site is what a selector names, or inside it; raise SelectorError for an invalid pattern."""
    return compile_pattern(selector).is_around(name)


def matches(name: str, selector: str) -> bool:
    """Return whether a selector matches a site's name; raise SelectorError for an invalid pattern."""
    return compile_pattern(selector).matches(name)
