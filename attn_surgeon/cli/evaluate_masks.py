"""What `attn-surgeon evaluate` says of a network that labels every pixel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from attn_surgeon.cli.output import bar, console, facts, print_json, say, steps, table

if TYPE_CHECKING:
    from torch import nn

    from attn_surgeon.subject import Subject


def evaluate_masks(
    subject: Subject,
    model: nn.Module,
    named: dict[str, Any],
    *,
    limit: int | None,
    ignore_index: int | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure a network on whole images by sliding windows of its input size, and say what came out."""
    from attn_surgeon.train.segmentation.task import open_part, score

    with steps(f"open {named['data']}"):
        parts = open_part(subject, named["data"], named["split"], limit=limit, ignore=ignore_index)
    since = time.perf_counter()
    with bar("evaluate") as progress:
        found = score(model, parts, device, progress)
    images, seconds = len(found.outcomes), time.perf_counter() - since
    document = {"images": images, "miou": found.metric, **found.figures, "loss": found.loss, "seconds": seconds}
    if as_json:
        print_json({**named, "task": "segmentation", **document})
        return
    for note in subject.notes:
        say(note)
    console().print(f"[bold]{escape(named['network'])}[/] on {escape(named['data'])}", soft_wrap=True)
    _show(document)


def _show(document: dict[str, Any]) -> None:
    rows = [
        ("images", f"{document['images']:,}"),
        ("mIoU", f"{100 * document['miou']:.2f} %"),
        ("right pixels", f"{100 * document['pixel_accuracy']:.2f} %"),
        ("loss", f"{document['loss']:.4f}"),
        ("time", f"{document['seconds']:.1f} s"),
    ]
    console().print(facts(rows))
    lines = [[name, "-" if share is None else f"{100 * share:.2f} %"] for name, share in document["iou"].items()]
    console().print(table("\nclasses", ["class", "IoU"], lines, right=["IoU"]))
