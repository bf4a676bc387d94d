"""Write the diagram of a network to a file: SVG, PNG, or an HTML page with panning and zooming."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from attn_surgeon.files import write_atomically

if TYPE_CHECKING:
    from attn_surgeon.surgery.sites.survey import Survey

SUFFIXES = (".svg", ".png", ".html")


def draw_network(survey: Survey, title: str, target: Path, depth: int | None = None) -> None:
    """Write the diagram of a surveyed network to a file, atomically.

    Args:
        survey: the surveyed network.
        title: the title of the diagram.
        target: the file; its suffix is the format.
        depth: the number of levels of modules to expand; by default, as many as fit a screen.

    Raises:
        SurgeonError: the extra `draw` is not installed.
        ArtefactError: Graphviz cannot render the diagram.
    """
    from attn_surgeon.draw.dataflow import build_diagram
    from attn_surgeon.draw.graphviz import render_png, render_svg
    from attn_surgeon.draw.page import page

    svg, dot = render_svg(build_diagram(survey, title, depth))
    text = page(svg, title) if target.suffix == ".html" else svg
    write_atomically(target, render_png(dot) if target.suffix == ".png" else text)
