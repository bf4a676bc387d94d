"""`attn-surgeon evaluate`: score a network on data, alone or against another network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attn_surgeon.cli import completion
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
    Trust,
    Weights,
    open_from_options,
    require_device,
)
from attn_surgeon.cli.output import bar, json_text, note_missing_pictures, print_json, say, steps
from attn_surgeon.cli.scores import show_evaluation
from attn_surgeon.cli.setting_options import option_of
from attn_surgeon.errors import nearest
from attn_surgeon.tasks import TASKS

if TYPE_CHECKING:
    from attn_surgeon.artefact.open_network import LoadedNetwork

ORIGINAL = "original"
DATA, SCORING, NETWORK = "Data", "Scoring", "Network"
_option = partial(typer.Option, show_default=False)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon evaluate demo-cbam.safetensors --data demo-clutter")(evaluate)


def evaluate(
    artefact: NetworkOrNewest = None,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="A folder with one folder of images per class, or with images/ and masks/; torch/NAME, hfds/USER/NAME"
            " or wds/SHARDS, as timm names them; demo or demo-clutter.",
            rich_help_panel=DATA,
        ),
    ] = ...,  # type: ignore[assignment]
    task: Annotated[
        str | None,
        _option(
            metavar="NAME", help=f"Task: {' or '.join(TASKS)} (default: inferred from the data).", rich_help_panel=DATA
        ),
    ] = None,
    split: Annotated[
        str, typer.Option(metavar="SPLIT", help="Split of the data, if it has splits.", rich_help_panel=DATA)
    ] = "val",
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Use at most N images, balanced over the classes.", min=1, max=10**9, rich_help_panel=DATA
        ),
    ] = None,
    data_dir: Annotated[str | None, option_of("data_dir")] = None,
    download: Annotated[bool, option_of("download")] = False,
    max_bad: Annotated[
        float,
        typer.Option(
            metavar="FRACTION",
            help="Largest fraction of unreadable images, which are skipped.",
            min=0,
            max=1,
            rich_help_panel=DATA,
        ),
    ] = 0.0,
    ignore_index: Annotated[int | None, option_of("ignore_index", DATA)] = None,
    classes_by_index: Annotated[
        bool,
        typer.Option(
            "--classes-by-index",
            help="Match the data's classes to the network's first outputs where their names do not match.",
            rich_help_panel=DATA,
        ),
    ] = False,
    compare: Annotated[
        str | None,
        _option(
            metavar="NETWORK",
            help="Score this network on the same images too: an artefact, a network as for insert, or 'original' for"
            " the same one without its grafts. --source, --weights, --arg, --mean, --std and --size apply to both.",
            autocompletion=completion.networks,
            rich_help_panel=SCORING,
        ),
    ] = None,
    without_grafts: Annotated[
        bool, typer.Option("--without-grafts", help="Score the original network.", rich_help_panel=SCORING)
    ] = False,
    robust: Annotated[
        bool,
        typer.Option(
            "--robust",
            help="Score under noise, blur, JPEG compression and clutter too, at five strengths each.",
            rich_help_panel=SCORING,
        ),
    ] = False,
    seed: Annotated[
        int,
        typer.Option(metavar="SEED", help="Random seed of --robust.", min=0, max=2**31, rich_help_panel=SCORING),
    ] = 0,
    report: Annotated[
        str | None,
        _option(
            metavar="DIR",
            help="Write the results and pictures of the predictions to this folder.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(metavar="N", help="Images per batch.", min=1, max=10**6, rich_help_panel=SCORING)
    ] = (256),
    workers: Annotated[int, option_of("workers", SCORING)] = 0,
    device: Device = "cpu",
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    args: Arguments = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    as_json: AsJson = False,
) -> None:
    """Score a network: accuracy, loss and calibration on labelled images, or mIoU on images with masks.

    With --compare, score another network on the same images and test the difference.

    Networks with the same hash of their logits are bit-identical on these images.
    """
    from attn_surgeon.evaluate.assess import assess, open_for_networks
    from attn_surgeon.evaluate.compare import ComparedNames
    from attn_surgeon.evaluate.report import require_folder, write_report
    from attn_surgeon.surgery.graft_check import check
    from attn_surgeon.tasks import get_task, infer_task
    from attn_surgeon.tasks.base import ScoreOptions
    from attn_surgeon.tasks.settings import TaskSettings

    require_device(device)
    if task is not None and task not in TASKS:
        raise OptionError(f"unknown task '{task}'", "--task", nearest(task, TASKS) or f"known: {', '.join(TASKS)}")
    if report is not None:
        require_folder(Path(report))
    path = given_or_newest(artefact)
    opened = partial(
        open_from_options, weights=weights, args=args, source=source, trust=trust, mean=mean, std=std, size=size
    )
    with steps(f"open {path}"):
        network = opened(path)
        scored = replace(network, model=network.base()) if without_grafts else network
        networks = [scored, *_compared(network, compare, opened, without_grafts=without_grafts)]
    for one in networks:
        check(one.model, one.example)
    chosen = get_task(task or infer_task(data))
    settings = TaskSettings(
        task=chosen.name,
        limit=limit,
        data_dir=data_dir,
        download=download,
        max_bad=max_bad,
        ignore_index=ignore_index,
        workers=workers,
    )
    with steps(f"open {data}"):
        images = open_for_networks(chosen, networks, data, split, settings, by_index=classes_by_index)
    options = ScoreOptions(batch_size, workers, device)
    compared = None if compare is None else ComparedNames(path, None if compare == ORIGINAL else compare)
    with bar("evaluate") as progress:
        found = assess(
            chosen,
            networks,
            images,
            compared=compared,
            corruption_seed=seed if robust else None,
            options=options,
            progress=progress,
        )
    document: dict[str, Any] = {"network": path, "data": data, "split": split, "without_grafts": without_grafts}
    document |= {"task": chosen.name, **found.document}
    if compare is not None:
        document["compare"] = {"network": compare, **document["compare"]}
    if report is not None:
        scored_images = zip(networks, images, found.scores, strict=True)
        pictures = [chosen.pictures(one.model, its_images, score) for one, its_images, score in scored_images]
        write_report(Path(report), json_text(document), pictures)
        note_missing_pictures()
    if as_json:
        print_json(document)
        return
    notes = [*(one.notes for one in networks), *(its_images.notes for its_images in images)]
    for note in dict.fromkeys(chain.from_iterable(notes)):
        say(note)
    show_evaluation(document, chosen)


def _compared(
    network: LoadedNetwork, compare: str | None, opened: Callable[[str], LoadedNetwork], *, without_grafts: bool
) -> list[LoadedNetwork]:
    """Return the network to compare with, if any; raise OptionError where it would be the same one."""
    from attn_surgeon.surgery.installed_grafts import list_grafts

    if compare is None:
        return []
    if compare != ORIGINAL:
        return [opened(compare)]
    if without_grafts or not list_grafts(network.model):
        what = "the original would be compared with itself"
        raise OptionError(what, f"--compare {ORIGINAL}", "name a network with grafts, and leave --without-grafts out")
    return [replace(network, model=network.base(), notes=())]
