"""The picture of a network in a file: SVG, PNG, or an HTML page to look around in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_surgeon.errors import ArtefactError

if TYPE_CHECKING:
    from attn_surgeon.surgery.sites.survey import Survey

SUFFIXES = (".svg", ".png", ".html")
_ZOOM = 2  # pixels of a PNG to one of the drawing, so that small text stays sharp


def require_renderer(suffix: str) -> None:
    """Raise ArtefactError where the library that makes a PNG is missing."""
    if suffix == ".png" and find_spec("resvg_py") is None:
        hint = "install it with: pip install resvg_py, or name an .svg or .html file"
        raise ArtefactError("a PNG needs the package resvg_py, which is not installed", "", hint)


def draw(survey: Survey, title: str, target: Path, depth: int | None = None) -> None:
    """Draw a surveyed network to a file, whole or not at all; `depth` opens it by levels."""
    from attn_surgeon.draw.drawing import draw_svg
    from attn_surgeon.draw.flowchart import chart
    from attn_surgeon.draw.page import page

    svg = draw_svg(chart(survey, title, depth))
    made: dict[str, Callable[[], bytes]] = {
        ".svg": svg.encode,
        ".png": lambda: to_png(svg),
        ".html": lambda: page(svg, title).encode(),
    }
    _write(target, made[target.suffix]())


def to_png(svg: str, **options: Any) -> bytes:
    """Render an SVG; on a machine without fonts, with the one that Pillow brings, for text without a font is left out.

    `options` are further ones of the renderer.
    """
    from PIL import ImageFont

    renderer: Any = import_module("resvg_py")
    font: Any = ImageFont.load_default(12)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "font.ttf"
        file.write_bytes(font.path.getvalue())
        given = {"font_files": [str(file)], "monospace_family": font.getname()[0], "zoom": _ZOOM, **options}
        return bytes(renderer.svg_to_bytes(svg_string=svg, **given))


def _write(target: Path, content: bytes) -> None:
    """Write beside the target first, so that no half a picture is left."""
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    mask = os.umask(0)
    os.umask(mask)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(target)
    finally:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
