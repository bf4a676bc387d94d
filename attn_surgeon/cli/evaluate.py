"""`attn-surgeon evaluate`: accuracy on a folder of images."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from attn_surgeon.cli import completion
from attn_surgeon.cli.evaluate_masks import evaluate_masks
from attn_surgeon.cli.files import given_or_newest
from attn_surgeon.cli.options import (
    Arguments,
    AsJson,
    Device,
    Mean,
    OptionError,
    Own,
    Size,
    Source,
    Std,
    Weights,
    open_network,
    require_device,
)
from attn_surgeon.cli.output import bar, console, facts, print_json, say, steps
from attn_surgeon.errors import nearest

if TYPE_CHECKING:
    from attn_surgeon.train.evaluate import Evaluation


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon evaluate demo-cbam.safetensors --data demo-clutter")(evaluate)


def evaluate(
    artefact: Annotated[
        str | None,
        typer.Argument(
            help="An artefact, or a network as for insert; without one, the newest artefact in this folder.",
            autocompletion=completion.networks,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="A folder with a folder of images per class, or with images/ and masks/; demo, or demo-clutter.",
        ),
    ] = ...,  # type: ignore[assignment]
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="classification or segmentation; the data tells.", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(metavar="PART", help="The part of the data, where it has parts.")] = "val",
    without_grafts: Annotated[bool, typer.Option("--without-grafts", help="Evaluate the original.")] = False,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only so many images, evenly over classes.", min=1)
    ] = None,
    ignore_index: Annotated[
        int | None,
        typer.Option(metavar="VALUE", help="A mask's value that says nothing; 255, unless masks are of 0 and 255."),
    ] = None,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images at a time.", min=1)] = 256,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that read images.", min=0)] = 0,
    device: Device = "cpu",
    source: Source = None,
    own: Own = None,
    weights: Weights = None,
    args: Arguments = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    as_json: AsJson = False,
) -> None:
    """Measure top-1, top-5 and loss on a folder of images, or mIoU on images with masks.

    The logits' hash tells bit-identical networks.
    """
    from attn_surgeon.train.data import open_dataset
    from attn_surgeon.train.evaluate import evaluate as measure

    require_device(device)
    path = given_or_newest(artefact)
    with steps(f"open {path}"):
        subject = open_network(path, weights=weights, args=args, source=source, mean=mean, std=std, size=size)
        model = subject.base() if without_grafts else subject.model
    named = {"network": path, "data": data, "split": split, "without_grafts": without_grafts}
    if _task(task, data) == "segmentation":
        evaluate_masks(subject, model, named, limit=limit, ignore_index=ignore_index, device=device, as_json=as_json)
        return
    with steps(f"open {data}"):
        images = open_dataset(data, split, subject.preprocessing)
    with bar("evaluate") as progress:
        result = measure(
            model, images, batch_size=batch_size, limit=limit, workers=workers, device=device, progress=progress
        )
    if as_json:
        print_json({**named, **asdict(result)})
        return
    for note in subject.notes:
        say(note)
    out = console()
    out.print(f"[bold]{escape(path)}[/] on {escape(data)}", soft_wrap=True)
    out.print(facts(_rows(result)))


def _task(said: str | None, data: str) -> str:
    """Give the task that was said, or that the data tells."""
    from attn_surgeon.train.masks import is_masked
    from attn_surgeon.train.settings import TASKS

    if said is not None and said not in TASKS:
        raise OptionError(f"there is no task '{said}'", "--task", nearest(said, TASKS) or f"known: {', '.join(TASKS)}")
    return said or ("segmentation" if is_masked(data) else "classification")


def _rows(result: Evaluation) -> list[tuple[str, str]]:
    top5 = "-" if result.top5 is None else f"{100 * result.top5:.2f} %  ({result.correct5:,})"
    return [
        ("images", f"{result.images:,}"),
        ("top-1", f"{100 * result.top1:.2f} %  ({result.correct:,})"),
        ("top-5", top5),
        ("loss", f"{result.loss:.4f}"),
        ("logits", f"sha256 {result.logits_sha256[:16]}…"),
        ("time", f"{result.seconds:.1f} s"),
    ]
