"""Pictures: no boxes over one another, labels that are there, files that are whole."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from io import BytesIO
from itertools import combinations, pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from attn_surgeon.draw import picture
from attn_surgeon.draw.arrange import Arrangement, Size, arrange
from attn_surgeon.draw.columns import edges, in_columns
from attn_surgeon.draw.drawing import draw_svg
from attn_surgeon.draw.flowchart import chart
from attn_surgeon.draw.group_colours import COLOURS
from attn_surgeon.errors import ArtefactError
from attn_surgeon.surgery.sites.groups import GROUPS
from attn_surgeon.surgery.sites.survey import Survey, survey

SVG = "{http://www.w3.org/2000/svg}"
LATTICE = [("a", "b"), ("a", "c"), ("a", "g"), ("b", "d"), ("c", "d"), ("c", "e"), ("d", "f"), ("e", "f"), ("f", "g")]
SIZES: dict[str, Size] = {name: (80 + 30 * index, 40 + 10 * (index % 3)) for index, name in enumerate("abcdefg")}


@pytest.fixture(scope="module")
def surveyed() -> Survey:
    return survey(resnet18(weights=None).eval(), torch.randn(1, 3, 64, 64))


def overlaps(arrangement: Arrangement, sizes: Mapping[str, Size]) -> list[tuple[str, str]]:
    boxes = {name: edges(arrangement.centres[name], sizes[name]) for name in sizes}
    return [
        (one, two)
        for one, two in combinations(boxes, 2)
        if boxes[one][0] < boxes[two][2] and boxes[two][0] < boxes[one][2]
        and boxes[one][1] < boxes[two][3] and boxes[two][1] < boxes[one][3]
    ]  # fmt: skip


def ways() -> list[bool]:
    return [False, True] if shutil.which("dot") else [False]


@pytest.mark.parametrize("use_dot", ways())
def test_boxes_are_apart_and_arrows_go_down(use_dot: bool) -> None:
    made = arrange(SIZES, LATTICE, {"frame": ["b", "c", "d"]}, use_dot=use_dot)
    assert overlaps(made, SIZES) == []
    assert all(made.centres[one][1] < made.centres[two][1] for one, two in LATTICE)


@pytest.mark.parametrize("use_dot", ways())
def test_arrows_end_at_their_boxes(use_dot: bool) -> None:
    made = arrange(SIZES, LATTICE, {}, use_dot=use_dot)
    for (one, two), points in made.paths.items():
        for name, (x, y) in ((one, points[0]), (two, points[-1])):
            left, top, right, bottom = edges(made.centres[name], SIZES[name])
            assert left - 3 <= x <= right + 3
            assert top - 3 <= y <= bottom + 3


def test_an_arrow_that_runs_back_is_drawn_without_dot() -> None:
    made = arrange(dict.fromkeys("abc", (50, 30)), [("a", "b"), ("b", "c"), ("c", "b")], {}, use_dot=False)
    assert set(made.paths) == {("a", "b"), ("b", "c"), ("c", "b")}


def test_a_long_strip_is_cut_into_columns() -> None:
    names = [f"n{index}" for index in range(24)]
    sizes: dict[str, Size] = dict.fromkeys(names, (200.0, 60.0))
    links = list(pairwise(names))
    sheet = in_columns(arrange(sizes, links, {}, use_dot=False), sizes, {}, 20)
    assert [sheet.columns[name] for name in names] == sorted(sheet.columns.values())
    assert len(sheet.crossing) == max(sheet.columns.values()) >= 1
    assert overlaps(sheet.arrangement, sizes) == []


@pytest.mark.parametrize("use_dot", ways())
def test_a_drawing_is_xml_with_every_label(surveyed: Survey, use_dot: bool) -> None:
    root = ElementTree.fromstring(draw_svg(chart(surveyed, "resnet & 18"), use_dot=use_dot))
    names = {box.get("data-name") for box in root.iter(f"{SVG}g")}
    texts = {"".join(text.itertext()) for text in root.iter(f"{SVG}text")}
    assert {"input", "conv1", "layer1.{0..1}", "layer4.1", "fc", "output"} <= names
    assert {"resnet & 18", "conv1", "layer4.1", "Conv2d · 9.4k", "1×64×32×32", "stages", "residual"} <= texts


def test_every_group_has_a_colour_of_its_own() -> None:
    assert list(COLOURS) == list(GROUPS)
    assert len(set(COLOURS.values())) == len(COLOURS)


def test_a_page_asks_the_network_for_nothing(surveyed: Survey, tmp_path: Path) -> None:
    picture.draw(surveyed, "resnet18", tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "http" not in text
    assert 'data-name="layer1.{0..1}"' in text
    assert "<script>" in text


def test_a_png_shows_the_drawing(surveyed: Survey, tmp_path: Path) -> None:
    picture.draw(surveyed, "resnet18", tmp_path / "r.png")
    with Image.open(tmp_path / "r.png") as image:
        colours = {colour for _, colour in image.convert("RGB").getcolors(image.width * image.height) or []}
    assert {(255, 255, 255), (0x2B, 0x3A, 0x4D), (0xE6, 0xEE, 0xF8)} <= colours
    assert [path.name for path in tmp_path.iterdir()] == ["r.png"]


def test_text_is_there_without_any_font_installed() -> None:
    line = '<text y="20" style="font-family: Nowhere, monospace; font-size: 15px">layer1 ×2</text>'
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" width="120" height="30">{line}</svg>'
    with Image.open(BytesIO(picture.to_png(drawing, background="#ffffff", skip_system_fonts=True))) as image:
        assert image.convert("L").getextrema() == (0, 255)


def test_a_missing_renderer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "find_spec", lambda name: None)
    with pytest.raises(ArtefactError, match="a PNG needs the package resvg_py") as raised:
        picture.require_renderer(".png")
    assert "pip install resvg_py" in raised.value.hint
    picture.require_renderer(".svg")
