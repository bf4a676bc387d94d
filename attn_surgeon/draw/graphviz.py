"""Lay out and render diagrams by Graphviz, whose libraries are part of the wheels of pygraphviz.

Graphviz runs in a subprocess, because its C code can abort and prints warnings to stderr.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from attn_surgeon.draw.diagram import Diagram
from attn_surgeon.draw.dot import FONT, to_dot
from attn_surgeon.draw.wrapping import column_starts
from attn_surgeon.errors import ArtefactError
from attn_surgeon.optional_dependencies import require_extra

_RENDER = """\
import sys, pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
sys.stdout.buffer.write(graph.draw(prog="dot", format=sys.argv[1]))"""
_SCREEN = (1200.0, 750.0)  # points
_PER_COLUMN = 0.93  # factor on the score of a layout for each further column
_PNG_SCALE = 2  # pixels per point, so that small text is sharp
_FALLBACKS = "Menlo,Consolas,monospace"  # fonts of about the same width, where an SVG is shown without DejaVu
_SIZE = re.compile(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"')


def require_graphviz() -> None:
    """Raise SurgeonError where the extra `draw` is not installed."""
    require_extra("draw", "pygraphviz", "matplotlib", what="drawing")


def render_svg(diagram: Diagram) -> tuple[str, str]:
    """Return a diagram as SVG, in the number of columns that fits a screen best, and the DOT text that gave it."""
    best, result = 0.0, ("", "")
    for columns in range(1, len(diagram.nodes) + 1):
        dot = to_dot(diagram, column_starts(diagram, columns))
        svg = render(dot, "svg").decode().replace(f'font-family="{FONT}"', f'font-family="{FONT},{_FALLBACKS}"')
        fit = _fit(svg) * _PER_COLUMN ** (columns - 1)
        if fit <= best:
            break
        best, result = fit, (svg, dot)
    return result


def render_png(dot: str) -> bytes:
    """Return a DOT text rendered as PNG."""
    return render(dot.replace("{", f"{{ dpi={72 * _PNG_SCALE}", 1), "png")


def render(dot: str, form: str) -> bytes:
    """Return a DOT text rendered by `dot` as `svg` or `png`; raise ArtefactError where Graphviz fails."""
    require_graphviz()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-c", _RENDER, form]
        process = subprocess.run(
            command, input=dot.encode(), capture_output=True, check=False, env=os.environ | _fonts(Path(folder))
        )
    if process.returncode:
        reason = process.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ArtefactError(f"Graphviz cannot draw this network: {reason or f'exit status {process.returncode}'}")
    return process.stdout


def _fonts(folder: Path) -> dict[str, str]:
    """Return the environment that makes fontconfig use Matplotlib's font, since a machine may have no fonts at all."""
    spec = find_spec("matplotlib")
    assert spec
    assert spec.origin
    for name in ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"):
        shutil.copy(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name, folder)
    config = folder / "fonts.conf"
    config.write_text(f"<fontconfig><dir>{folder}</dir><cachedir>{folder}</cachedir></fontconfig>")
    return {"FONTCONFIG_FILE": str(config)}


def _fit(svg: str) -> float:
    """Return the scale at which an SVG fits a screen, at most 1."""
    size = _SIZE.search(svg)
    assert size
    return min(1.0, _SCREEN[0] / float(size[1]), _SCREEN[1] / float(size[2]))
