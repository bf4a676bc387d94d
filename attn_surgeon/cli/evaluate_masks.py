"""What `attn-surgeon evaluate` says of networks that label every pixel."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from attn_surgeon.cli.output import bar, console, facts, print_json, print_table, say, steps, table
from attn_surgeon.cli.scores import interval, percent, show_robust

if TYPE_CHECKING:
    from attn_surgeon.artefact.opening import LoadedNetwork
    from attn_surgeon.data.parts import Parts
    from attn_surgeon.evaluate.compare import Rivals
    from attn_surgeon.tasks.base import Score


@dataclass(frozen=True)
class Looked:
    """Hold how images with masks are looked at."""

    limit: int | None
    ignore_index: int | None
    device: str
    robust: int | None


def evaluate_masks(
    entrants: Sequence[LoadedNetwork], named: dict[str, Any], looked: Looked, rivals: Rivals | None, *, as_json: bool
) -> None:
    """Measure one network, or two, on whole images by sliding windows of its input size, and say what came out."""
    from attn_surgeon.evaluate.mask_compare import compare

    parts = _opened(entrants, named, looked)
    scored = _scored(entrants, parts, looked)
    first, *rest = [_described(score, seconds) for score, seconds in scored]
    document = {**named, "task": "segmentation", **first}
    if rivals is not None:
        name = rivals.second or "original"
        document["compare"] = {"network": name, **rest[0], **compare(scored[0][0], scored[1][0], rivals)}
    if looked.robust is not None:
        clean = [score for score, _ in scored]
        document["robust"] = {"seed": looked.robust, **_robust(entrants, parts, clean, looked, rivals)}
    if as_json:
        print_json(document)
        return
    for note in (note for entrant in entrants for note in entrant.notes):
        say(note)
    _show(document)


def _opened(entrants: Sequence[LoadedNetwork], named: dict[str, Any], looked: Looked) -> list[Parts]:
    """Open the data as each network wants it."""
    from attn_surgeon.evaluate.mask_compare import require_same_masks
    from attn_surgeon.tasks.segmentation import open_part

    with steps(f"open {named['data']}"):
        parts = [
            open_part(entrant, named["data"], named["split"], limit=looked.limit, ignore=looked.ignore_index)
            for entrant in entrants
        ]
        require_same_masks(parts[0], parts[-1])
    return parts


def _scored(entrants: Sequence[LoadedNetwork], parts: Sequence[Parts], looked: Looked) -> list[tuple[Score, float]]:
    """Measure each network; give its score and the seconds that took."""
    from attn_surgeon.evaluate.robust import one_of
    from attn_surgeon.tasks.segmentation import score

    scored = []
    with bar("evaluate") as progress:
        for number, (entrant, part) in enumerate(zip(entrants, parts, strict=True)):
            since = time.perf_counter()
            step = partial(one_of, progress, number, len(parts))
            scored.append((score(entrant.model, part, looked.device, step), time.perf_counter() - since))
    return scored


def _robust(
    entrants: Sequence[LoadedNetwork],
    parts: Sequence[Parts],
    clean: Sequence[Score],
    looked: Looked,
    rivals: Rivals | None,
) -> dict[str, Any]:
    import torch

    from attn_surgeon.evaluate.mask_robust import described, robustness

    models = [entrant.model for entrant in entrants]
    with bar("corrupted images") as progress:
        trials = robustness(models, parts, looked.robust or 0, looked.device, progress)
    return described(trials, tuple(torch.tensor(score.outcomes, dtype=torch.float64) for score in clean), rivals)


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
    print_table(out, table("\nIoU of each class", ["class", *titles], lines, right=titles))
    if rival is not None:
        _show_comparison(rival)
    if "robust" in document:
        show_robust(document["robust"], rival, "miou_by_image", "mIoU of an image in %,")


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
