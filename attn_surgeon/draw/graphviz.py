"""Graphviz, which lays diagrams out and renders them; its libraries come with the wheels of pygraphviz.

It runs in a process of its own: C code that aborts on a graph would end this one, and it prints to its own stderr.
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
from attn_surgeon.extras import require_extra

_RENDER = """\
import sys, pygraphviz
graph = pygraphviz.AGraph(string=sys.stdin.buffer.read().decode())
sys.stdout.buffer.write(graph.draw(prog="dot", format=sys.argv[1]))"""
_SCREEN = (1200.0, 750.0)  # points
_PER_COLUMN = 0.93  # a further column must make the text larger by more than this
_PNG_SCALE = 2  # pixels to a point, so that small text stays sharp
_FALLBACKS = "Menlo,Consolas,monospace"  # of about the same width, for where the SVG is shown
_SIZE = re.compile(r'<svg width="([\d.]+)pt" height="([\d.]+)pt"')


def require_graphviz() -> None:
    """Raise SurgeonError where the extra that draws is not installed."""
    require_extra("draw", "pygraphviz", "matplotlib", what="drawing")


def render_svg(diagram: Diagram) -> tuple[str, str]:
    """Return a diagram as SVG, in as many columns as fit a screen best, and the DOT text it was made from."""
    best, chosen = 0.0, ("", "")
    for columns in range(1, len(diagram.nodes) + 1):
        dot = to_dot(diagram, column_starts(diagram, columns))
        svg = render(dot, "svg").decode().replace(f'font-family="{FONT}"', f'font-family="{FONT},{_FALLBACKS}"')
        fit = _fit(svg) * _PER_COLUMN ** (columns - 1)
        if fit <= best:
            break
        best, chosen = fit, (svg, dot)
    return chosen


def render_png(dot: str) -> bytes:
    """Return a DOT text as PNG."""
    return render(dot.replace("{", f"{{ dpi={72 * _PNG_SCALE}", 1), "png")


def render(dot: str, form: str) -> bytes:
    """Return a DOT text laid out by `dot` in a format of Graphviz's: svg, png."""
    require_graphviz()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-P", "-c", _RENDER, form]
        done = subprocess.run(
            command, input=dot.encode(), capture_output=True, check=False, env=os.environ | _fonts(Path(folder))
        )
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ArtefactError(f"Graphviz cannot draw this network: {reason or f'exit status {done.returncode}'}")
    return done.stdout


def _fonts(folder: Path) -> dict[str, str]:
    """Register Matplotlib's font with fontconfig: many machines have no font, and pictures look the same everywhere."""
    spec = find_spec("matplotlib")
    assert spec
    assert spec.origin
    for name in ("DejaVuSansMono.ttf", "DejaVuSansMono-Bold.ttf"):
        shutil.copy(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf" / name, folder)
    config = folder / "fonts.conf"
    config.write_text(f"<fontconfig><dir>{folder}</dir><cachedir>{folder}</cachedir></fontconfig>")
    return {"FONTCONFIG_FILE": str(config)}


def _fit(svg: str) -> float:
    """Return how large the text of a drawing is on a screen that shows all of it, at most 1."""
    size = _SIZE.search(svg)
    assert size
    return min(1.0, _SCREEN[0] / float(size[1]), _SCREEN[1] / float(size[2]))
