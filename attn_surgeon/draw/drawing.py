"""A flow chart as SVG. The looks are made here, whatever arranged the boxes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from xml.sax.saxutils import escape, quoteattr

from attn_surgeon.draw.arrange import Link, Point, Size, arrange
from attn_surgeon.draw.chart import INPUT, OUTPUT, Arrow, Box, Chart
from attn_surgeon.draw.columns import Edges, Sheet, edges, in_columns, span
from attn_surgeon.draw.frames import Frame, held_by_frames, placed_frames, room
from attn_surgeon.draw.group_colours import COLOURS, GRAFT, colour, word
from attn_surgeon.draw.labels import about, badge, label, pills, shape_text

_FONT = "'DejaVu Sans Mono', 'Liberation Mono', Menlo, Consolas, monospace"
_NAME, _SMALL, _CHIP = 15, 12, 11
_ADVANCE = 0.61  # width of a letter of a monospaced font, of its size
_PAD, _MARGIN, _LINE = 12.0, 26.0, 18.0
_NOTE = "filled: what leaves the box; outlined: inside it"
_INK, _FAINT, _EDGE = "#17202c", "#5d6b7c", "#8494a7"


def draw_svg(chart: Chart, *, use_dot: bool = True) -> str:
    """Draw a chart."""
    held = held_by_frames(chart)
    sizes = {box.name: _size(box) for box in chart.boxes}
    links = [(arrow.source, arrow.target) for arrow in chart.arrows]
    sheet = in_columns(arrange(sizes, links, held, use_dot=use_dot), sizes, held, room(held))
    frames = placed_frames(chart, held, sheet, sizes)
    sources = {box.name: box for box in chart.boxes}
    parts = [
        *map(_frame, frames),
        *(_arrow(arrow, sources[arrow.source], sheet) for arrow in chart.arrows),
        *map(_heading, frames),
        *(_shape(arrow, sources[arrow.source], sheet) for arrow in chart.arrows),
        *(_box(box, sheet.arrangement.centres[box.name], sizes[box.name]) for box in chart.boxes),
    ]
    return _page(chart, parts, _extent(sheet, sizes, frames))


def _size(box: Box) -> Size:
    width = max(
        _width(label(box) + "  " + _times(box), _NAME, bold=True), *(_width(line, _SMALL) for line in about(box))
    )
    chips = sum(_width(word(text), _CHIP) + 16 for text, _ in pills(box))
    width = max(width, chips, _width(badge(box), _SMALL) + 8) + 2 * _PAD
    height = 30 + _LINE * len(about(box)) + (22 if pills(box) else 0) + (24 if badge(box) else 0)
    return round(width), round(height)


def _times(box: Box) -> str:
    return f"×{box.count}" if box.count > 1 and box.name.endswith("}") else ""


def _width(text: str, size: int, *, bold: bool = False) -> float:
    return len(text) * size * _ADVANCE * (1.02 if bold else 1)


def _extent(sheet: Sheet, sizes: Mapping[str, Size], frames: Sequence[Frame]) -> Edges:
    boxes = [edges(centre, sizes[name]) for name, centre in sheet.arrangement.centres.items()]
    points = [(x, y, x, y) for path in sheet.arrangement.paths.values() for x, y in path]
    left, top, right, bottom = span([*boxes, *points, *(frame.edges for frame in frames)])
    return left - _MARGIN, top - _MARGIN, right + _MARGIN, bottom + _MARGIN


def _frame(frame: Frame) -> str:
    x, y, right, bottom = frame.edges
    return f'<rect class="frame" x="{x:.1f}" y="{y:.1f}" width="{right - x:.1f}" height="{bottom - y:.1f}" rx="8"/>'


def _heading(frame: Frame) -> str:
    x, y, _, _ = frame.edges
    return f'<text class="heading" x="{x + 8:.1f}" y="{y + 13:.1f}">{escape(frame.heading)}</text>'


def _arrow(arrow: Arrow, source: Box, sheet: Sheet) -> str:
    link: Link = (arrow.source, arrow.target)
    turns = link in sheet.crossing
    path = _path(sheet.arrangement.paths[link], curved=sheet.arrangement.curved and not turns, straight=turns)
    told = f"{arrow.source} → {arrow.target}: {', '.join(arrow.shapes)}"
    return f'<path class="arrow" d="{path}" marker-end="url(#head)"><title>{escape(told)}</title></path>'


def _shape(arrow: Arrow, source: Box, sheet: Sheet) -> str:
    """Tell the shape on an arrow where it is not the one told on the box."""
    if set(arrow.shapes) == set(source.shapes):
        return ""
    points = sheet.arrangement.paths[arrow.source, arrow.target]
    (x1, y1), (x2, y2) = points[len(points) // 2 - 1], points[len(points) // 2]
    x, y = (x1 + x2) / 2, (y1 + y2) / 2
    return f'<text class="shape" x="{x + 7:.1f}" y="{y + 2:.1f}">{escape(shape_text(arrow.shapes))}</text>'


def _path(points: Sequence[Point], *, curved: bool, straight: bool) -> str:
    (x, y), *rest = points
    text = f"M{x:.1f},{y:.1f}"
    if curved:
        return text + " C" + " ".join(f"{px:.1f},{py:.1f}" for px, py in rest)
    if straight:
        return text + " L" + " ".join(f"{px:.1f},{py:.1f}" for px, py in rest)
    for px, py in rest:  # leaves and arrives upright, so that way-points are passed without a kink
        middle = (y + py) / 2
        text += f" C{x:.1f},{middle:.1f} {px:.1f},{middle:.1f} {px:.1f},{py:.1f}"
        x, y = px, py
    return text


def _box(box: Box, centre: Point, size: Size) -> str:
    width, height = size
    x, y = centre[0] - width / 2, centre[1] - height / 2
    kind = _kind(box)
    body = [_rect(f"{kind} back", x + step, y + step, size) for step in ((8, 4) if _times(box) else ())]
    frame = f' style="stroke:{GRAFT};stroke-width:2.6"' if badge(box) else ""
    body.append(_rect(kind, x, y, size, frame))
    times = f'<tspan class="times" dx="12">{escape(_times(box))}</tspan>' if _times(box) else ""
    body.append(f'<text class="name {kind}" x="{x + _PAD:.1f}" y="{y + 20:.1f}">{escape(label(box))}{times}</text>')
    line = y + 20
    for text in about(box):
        line += _LINE
        body.append(f'<text class="small {kind}" x="{x + _PAD:.1f}" y="{line:.1f}">{escape(text)}</text>')
    body += _pills(box, x + _PAD, line + 8)
    if badge(box):
        body += _badge(box, x, y + height - 24, width)
    data = "".join(f" data-{key}={quoteattr(value)}" for key, value in _data(box).items())
    return f'<g class="box"{data}>{"".join(body)}</g>'


def _kind(box: Box) -> str:
    return "end" if box.name in (INPUT, OUTPUT) else "module" if box.parameters else "function"


def _rect(kind: str, x: float, y: float, size: Size, style: str = "") -> str:
    width, height = size
    return f'<rect class="{kind}"{style} x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="7"/>'


def _data(box: Box) -> dict[str, str]:
    told = {
        "name": box.name,
        "type": box.type,
        "shape": ", ".join(box.shapes),
        "parameters": f"{box.parameters:,}" if box.parameters else "",
        "groups": ", ".join(box.groups),
        "inner": ", ".join(box.inner),
        "grafts": ", ".join(box.grafts),
    }
    return {key: value for key, value in told.items() if value}


def _pills(box: Box, x: float, y: float) -> Iterable[str]:
    for text, own in pills(box):
        width, tint = _width(word(text), _CHIP) + 10, colour(text)
        fill, ink = (tint, "#ffffff") if own else ("#ffffff", tint)
        yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="16" rx="8" fill="{fill}" stroke="{tint}"/>'
        yield f'<text class="chip" x="{x + 5:.1f}" y="{y + 12:.1f}" style="fill:{ink}">{escape(word(text))}</text>'
        x += width + 6


def _badge(box: Box, x: float, y: float, width: float) -> Iterable[str]:
    yield f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="24" rx="7" fill="{GRAFT}"/>'
    yield f'<text class="graft" x="{x + _PAD:.1f}" y="{y + 16.5:.1f}">{escape(badge(box))}</text>'


def _legend(chart: Chart, x: float, y: float) -> tuple[list[str], float]:
    """Explain the colours that are there; tell also where that ends."""
    there = [group for group in COLOURS if any(group in (*box.groups, *box.inner) for box in chart.boxes)]
    entries = [(group, colour(group)) for group in there]
    if any(box.grafts for box in chart.boxes):
        entries.append(("graft", GRAFT))
    texts = []
    for name, tint in entries:
        texts.append(f'<rect x="{x:.1f}" y="{y - 10:.1f}" width="12" height="12" rx="3" fill="{tint}"/>')
        texts.append(f'<text class="small" x="{x + 18:.1f}" y="{y:.1f}">{name}</text>')
        x += 18 + _width(name, _SMALL) + 20
    if there:
        texts.append(f'<text class="small" x="{x:.1f}" y="{y:.1f}">{_NOTE}</text>')
        x += _width(_NOTE, _SMALL)
    return texts, x


def _page(chart: Chart, parts: Iterable[str], extent: Edges) -> str:
    left, top, right, bottom = extent
    legend, end = _legend(chart, left + _MARGIN, top - 12)
    head = 70 if legend else 44
    width = max(right - left, _width(chart.title, 18) + 2 * _MARGIN, end - left + _MARGIN)
    view = f"{left:.0f} {top - head:.0f} {width:.0f} {bottom - top + head:.0f}"
    size = f'width="{width:.0f}" height="{bottom - top + head:.0f}"'
    title = f'<text class="title" x="{left + _MARGIN:.1f}" y="{top - head + 32:.1f}">{escape(chart.title)}</text>'
    paper = f'<rect x="{left:.0f}" y="{top - head:.0f}" width="100%" height="100%" fill="#ffffff"/>'
    body = "\n".join([paper, title, *legend, *parts])
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="{view}">\n{_STYLE}\n{body}\n</svg>\n'


_STYLE = f"""<style>
text {{ font-family: {_FONT}; fill: {_INK}; }}
.title {{ font-size: 18px; font-weight: bold; }}
.name {{ font-size: {_NAME}px; font-weight: bold; }}
.times {{ fill: #0b6e8a; }}
.small, .shape, .heading {{ font-size: {_SMALL}px; fill: {_FAINT}; }}
.shape, .heading {{ stroke: #ffffff; stroke-width: 3; paint-order: stroke; }}
.chip {{ font-size: {_CHIP}px; }}
.graft {{ font-size: {_SMALL}px; font-weight: bold; fill: #ffffff; }}
rect.module {{ fill: #e6eef8; stroke: {_EDGE}; }}
rect.function {{ fill: #fbfaf5; stroke: {_EDGE}; }}
rect.end {{ fill: #2b3a4d; }}
text.end {{ fill: #ffffff; }}
rect.frame {{ fill: #55708f; fill-opacity: 0.06; stroke: #a9b6c6; stroke-dasharray: 5 4; }}
.arrow {{ fill: none; stroke: {_EDGE}; stroke-width: 1.6; stroke-linejoin: round; }}
</style>
<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0,0 L8,4 L0,8 z" fill="{_EDGE}"/></marker></defs>"""
