"""`inspect --code`: the forward of a site's owner, as written and as rewritten for a graft."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.syntax import Syntax

from attn_surgeon.cli.output import console
from attn_surgeon.errors import SelectorError

if TYPE_CHECKING:
    from torch import nn

    from attn_surgeon.surgery.sites.survey import Site


@dataclass(frozen=True)
class Forward:
    """A class's forward before and after; `grafted` is false where the graft is not inserted yet."""

    owner: str
    cls: str
    before: str
    after: str
    grafted: bool


def forwards(model: nn.Module, sites: Sequence[Site]) -> list[Forward]:
    """Return the code of the sites' owners, once for owners of one class with the same code."""
    unique: dict[tuple[str, str], Forward] = {}
    for site in sites:
        forward = _forward(model, site)
        unique.setdefault((forward.cls, forward.after), forward)
    return list(unique.values())


def _forward(model: nn.Module, site: Site) -> Forward:
    from attn_surgeon.surgery.forward_diff import original_text, readable_text
    from attn_surgeon.surgery.rewrite.operated_modules import generated_sources, grafts_in, is_operated, original_class

    places = site.after or site.before
    if not places:
        raise SelectorError("no graft can be inserted there, so there is no code to show", site.name)
    module = model.get_submodule(places[0].owner)
    cls = original_class(module)
    grafted = is_operated(module) and bool(grafts_in(module))
    after = readable_text(generated_sources(module)) if grafted else _planned_code(module, site)
    return Forward(places[0].owner, cls.__name__, original_text(cls), after, grafted)


def _planned_code(module: nn.Module, site: Site) -> str:
    """Return the forward with a graft at the site, at the first placement for which code can be generated."""
    from attn_surgeon.surgery.forward_diff import readable_text
    from attn_surgeon.surgery.rewrite.binding import UntraceableError
    from attn_surgeon.surgery.rewrite.generated_code import write_code

    reason = ""
    places = site.after or site.before
    for place in (place for place in places if place.owner == places[0].owner):
        try:
            return readable_text(write_code(module, {place.key: place}).sources)
        except UntraceableError as error:
            reason = str(error)
    return f"# no graft can be written here: {reason}"


def code_documents(code: Sequence[Forward]) -> list[dict[str, object]]:
    """Return the code as plain data."""
    return [asdict(forward) for forward in code]


def print_code(code: Sequence[Forward]) -> None:
    """Print each owner's code before and after."""
    out = console()
    for forward in code:
        owner = escape(forward.owner or "(the network)")
        out.print(f"[bold]{forward.cls}[/] [dim]{owner}, as written[/]", soft_wrap=True)
        out.print(Syntax(forward.before, "python", background_color="default", word_wrap=True))
        after = "with its grafts" if forward.grafted else "with a graft there"
        out.print(f"\n[bold]{forward.cls}[/] [dim]{owner}, {after}[/]", soft_wrap=True)
        out.print(Syntax(forward.after, "python", background_color="default", word_wrap=True))
