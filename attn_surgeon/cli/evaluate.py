"""`attn-surgeon evaluate`: accuracy on a folder of images, alone or against another network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attn_surgeon.cli import completion
from attn_surgeon.cli.evaluate_masks import Looked, evaluate_masks
from attn_surgeon.cli.files import given_or_newest
from attn_surgeon.cli.options import (
    Arguments,
    AsJson,
    Device,
    Mean,
    NetworkOrNewest,
    OptionError,
    Own,
    Size,
    Source,
    Std,
    Weights,
    open_from_options,
    require_device,
)
from attn_surgeon.cli.output import bar, json_text, print_json, say, steps
from attn_surgeon.cli.scores import show
from attn_surgeon.errors import nearest

if TYPE_CHECKING:
    from attn_surgeon.artefact.opening import LoadedNetwork

ORIGINAL = "original"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon evaluate demo-cbam.safetensors --data demo-clutter")(evaluate)


def evaluate(
    artefact: NetworkOrNewest = None,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="A folder with a folder of images per class, or with images/ and masks/; torch/NAME, hfds/USER/NAME or"
            " wds/SHARDS, as timm names them; demo, or demo-clutter.",
        ),
    ] = ...,  # type: ignore[assignment]
    task: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="classification or segmentation; the data tells.", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(metavar="PART", help="The part of the data, where it has parts.")] = "val",
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where torch/, hfds/ and wds/ data lies.", show_default=False)
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch such data where it is not there.")] = False,
    max_bad: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Leave out images that cannot be read, up to this share.", min=0, max=1),
    ] = 0.0,
    without_grafts: Annotated[bool, typer.Option("--without-grafts", help="Evaluate the original.")] = False,
    compare: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="Measure this network on the same images too: an artefact, a network as for insert, or 'original' for"
            " the same one without its grafts. --source, --weights, --arg, --mean, --std and --size hold for both.",
            autocompletion=completion.networks,
            show_default=False,
        ),
    ] = None,
    robust: Annotated[
        bool, typer.Option("--robust", help="Measure under noise, blur, JPEG and clutter too, at five strengths each.")
    ] = False,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="The draws of --robust.", min=0, max=2**31)] = 0,
    report: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Write everything there, confusion matrices too.", show_default=False),
    ] = None,
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
    """Measure accuracy, loss and calibration on a folder of images, or mIoU on images with masks.

    Alone, or with --compare against another network.

    The logits' hash tells bit-identical networks.
    """
    from attn_surgeon.data import Place
    from attn_surgeon.evaluate.answers import Reading
    from attn_surgeon.evaluate.assess import assess
    from attn_surgeon.evaluate.compare import Rivals
    from attn_surgeon.evaluate.report import make_folder, write_report
    from attn_surgeon.evaluate.views import open_views, unlike
    from attn_surgeon.surgery.check import check

    require_device(device)
    path = given_or_newest(artefact)
    opened = partial(open_from_options, weights=weights, args=args, source=source, mean=mean, std=std, size=size)
    with steps(f"open {path}"):
        loaded = opened(path)
        model = loaded.base() if without_grafts else loaded.model
        rival = None if compare is None else _rival(loaded, compare, opened, without_grafts=without_grafts)
    named: dict[str, Any] = {"network": path, "data": data, "split": split, "without_grafts": without_grafts}
    entrants = [replace(loaded, model=model), *([] if rival is None else [rival])]
    for entrant in entrants:
        check(entrant.model, entrant.example)
    rivals = None if compare is None else Rivals(path, None if compare == ORIGINAL else compare)
    if _task(task, data) == "segmentation":
        _refuse_for_masks({"--report": report, "--max-bad": max_bad})
        looked = Looked(limit, ignore_index, device, seed if robust else None)
        evaluate_masks(entrants, named, looked, rivals, as_json=as_json)
        return
    with steps(f"open {data}"):
        wanted = [entrant.preprocessing for entrant in entrants]
        known = loaded.provenance.class_names
        images, notes = open_views(data, split, wanted, Place(data_dir, download), known, max_bad)
        notes = (*notes, *(note for entrant in entrants for note in unlike(entrant, images.class_names)))
    if report is not None:
        make_folder(Path(report))
    with bar("evaluate") as progress:
        found = assess(
            [entrant.model for entrant in entrants],
            images,
            Reading(batch_size, limit, workers, device),
            rivals=rivals,
            robust=seed if robust else None,
            progress=progress,
        )
    document = named | found.document
    if compare is not None:
        document["compare"] = {"network": compare, **document["compare"]}
    if report is not None:
        write_report(Path(report), json_text(document), found.answers, images.class_names)
    if as_json:
        print_json(document)
        return
    for note in (*(note for entrant in entrants for note in entrant.notes), *notes):
        say(note)
    show(document)


def _rival(
    loaded: LoadedNetwork, compare: str, opened: Callable[[str], LoadedNetwork], *, without_grafts: bool
) -> LoadedNetwork:
    """Open the network to compare with; raise OptionError or DataError where the two cannot be compared."""
    from attn_surgeon.evaluate.compare import require_same_classes
    from attn_surgeon.surgery.installed import list_grafts

    if compare != ORIGINAL:
        rival = opened(compare)
        require_same_classes(loaded, rival)
        return rival
    if without_grafts or not list_grafts(loaded.model):
        what = "the original would be compared with itself"
        raise OptionError(what, f"--compare {ORIGINAL}", "name a network with grafts, and leave --without-grafts out")
    return replace(loaded, model=loaded.base(), notes=())


def _task(said: str | None, data: str) -> str:
    """Give the task that was said, or that the data tells."""
    from attn_surgeon.data.mask_pairs import is_masked
    from attn_surgeon.finetune.settings import TASKS

    if said is not None and said not in TASKS:
        raise OptionError(f"there is no task '{said}'", "--task", nearest(said, TASKS) or f"known: {', '.join(TASKS)}")
    return said or ("segmentation" if is_masked(data) else "classification")


def _refuse_for_masks(given: dict[str, object]) -> None:
    """Refuse what is for classifiers only."""
    for option, value in given.items():
        if value:
            raise OptionError("this is for classification only", option, f"leave {option} out")
