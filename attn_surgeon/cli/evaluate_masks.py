"""What `attn-surgeon evaluate` says of networks that label every pixel."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from attn_surgeon.cli.output import bar, console, facts, print_json, say, steps, table
from attn_surgeon.cli.scores import interval, percent

if TYPE_CHECKING:
    from attn_surgeon.subject import Subject
    from attn_surgeon.train.evaluation.compare import Rivals
    from attn_surgeon.train.tasks import Score


@dataclass(frozen=True)
class Looked:
    """Hold how images with masks are looked at."""

    limit: int | None
    ignore_index: int | None
    device: str


def evaluate_masks(
    entrants: Sequence[Subject], named: dict[str, Any], looked: Looked, rivals: Rivals | None, *, as_json: bool
) -> None:
    """Measure one network, or two, on whole images by sliding windows of its input size, and say what came out."""
    from attn_surgeon.train.segmentation.compare import compare

    scored = _scored(entrants, named, looked)
    first, *rest = [_described(score, seconds) for score, seconds in scored]
    document = {**named, "task": "segmentation", **first}
    if rivals is not None:
        name = rivals.second or "original"
        document["compare"] = {"network": name, **rest[0], **compare(scored[0][0], scored[1][0], rivals)}
    if as_json:
        print_json(document)
        return
    for note in (note for entrant in entrants for note in entrant.notes):
        say(note)
    _show(document)


def _scored(entrants: Sequence[Subject], named: dict[str, Any], looked: Looked) -> list[tuple[Score, float]]:
    """Measure each network; give its score and the seconds that took."""
    from attn_surgeon.train.segmentation.compare import require_same_masks
    from attn_surgeon.train.segmentation.task import open_part, score

    with steps(f"open {named['data']}"):
        parts = [
            open_part(entrant, named["data"], named["split"], limit=looked.limit, ignore=looked.ignore_index)
            for entrant in entrants
        ]
        require_same_masks(parts[0], parts[-1])
    scored = []
    with bar("evaluate") as progress:
        for number, (entrant, part) in enumerate(zip(entrants, parts, strict=True)):
            since = time.perf_counter()
            told = lambda done, total, before=number: progress(before * total + done, len(parts) * total)  # noqa: E731
            scored.append((score(entrant.model, part, looked.device, told), time.perf_counter() - since))
    return scored


def _described(score: Score, seconds: float) -> dict[str, Any]:
    figures = {"miou": score.metric, **score.figures, "loss": score.loss}
    return {"images": len(score.outcomes), **figures, "seconds": seconds}


def _show(document: dict[str, Any]) -> None:
    out, rival = console(), document.get("compare")
    arms = [document, *([] if rival is None else [rival])]
    names = [str(arm["network"]) for arm in arms]
    against = "" if rival is None else f" against [bold]{escape(names[1])}[/]"
    out.print(f"[bold]{escape(names[0])}[/]{against} on {escape(document['data'])}", soft_wrap=True)
    titles = ["IoU"] if rival is None else names
    rows = [[name, *cells] for name, *cells in zip(*_columns(arms), strict=True)]
    out.print(facts([(name, value) for name, value in rows]) if rival is None else table("", ["", *names], rows))
    lines = [[name, *(_share(arm["iou"][name]) for arm in arms)] for name in document["iou"]]
    out.print(table("\nIoU of each class", ["class", *titles], lines, right=titles))
    if rival is not None:
        _show_comparison(rival)


def _columns(arms: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Give a column of names, and one of figures for each network."""
    return [("images", "mIoU", "right pixels", "loss", "time"), *(_figures(arm) for arm in arms)]


def _figures(arm: dict[str, Any]) -> tuple[str, ...]:
    shares = percent(arm["miou"]), percent(arm["pixel_accuracy"])
    return (f"{arm['images']:,}", *shares, f"{arm['loss']:.4f}", f"{arm['seconds']:.1f} s")


def _show_comparison(rival: dict[str, Any]) -> None:
    test = rival["wilcoxon"]
    told = f"p = {test['p']:.3g}; better on {test['better']:,} images, worse on {test['worse']:,}"
    difference = f"{interval(rival['difference'])} ({rival['difference']['how']})"
    console().print()
    console().print(facts([("difference", difference), ("signed ranks", told)]))
    console().print(f"[bold]{escape(rival['verdict'])}[/]", soft_wrap=True)


def _share(share: float | None) -> str:
    return "-" if share is None else percent(share)
