"""`attn-surgeon evaluate`: score a network on data, alone or against another network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from attn_surgeon.cli.evaluate_options import (
    ORIGINAL,
    BatchSize,
    ClassesByIndex,
    Compare,
    CorruptionSeed,
    Data,
    DataDir,
    Download,
    IgnoreIndex,
    Limit,
    MaxBad,
    Report,
    Robust,
    Split,
    TaskName,
    WithoutGrafts,
    Workers,
)
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
from attn_surgeon.cli.output import json_text, note_missing_pictures, print_json, print_note, progress_bar, show_steps
from attn_surgeon.cli.scores import show_evaluation

if TYPE_CHECKING:
    from attn_surgeon.artefact.open_network import LoadedNetwork
    from attn_surgeon.tasks.base import Score, Task


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon evaluate demo-cbam.safetensors --data demo-clutter")(evaluate)


def evaluate(
    artefact: NetworkOrNewest = None,
    data: Data = ...,  # type: ignore[assignment]
    task: TaskName = None,
    split: Split = "val",
    limit: Limit = None,
    data_dir: DataDir = None,
    download: Download = False,
    max_bad: MaxBad = 0.0,
    ignore_index: IgnoreIndex = None,
    classes_by_index: ClassesByIndex = False,
    compare: Compare = None,
    without_grafts: WithoutGrafts = False,
    robust: Robust = False,
    seed: CorruptionSeed = 0,
    report: Report = None,
    batch_size: BatchSize = 256,
    workers: Workers = 0,
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
    """Score a network: accuracy, loss and calibration on labelled images, mIoU on masks, or mAP on boxes.

    With --compare, score another network on the same images and test the difference.

    Networks with the same hash of their logits are bit-identical on these images.
    """
    from attn_surgeon.evaluate.assess import assess, open_for_networks
    from attn_surgeon.evaluate.compare import ComparedNames
    from attn_surgeon.evaluate.report import require_folder
    from attn_surgeon.tasks import get_task, infer_task
    from attn_surgeon.tasks.base import ScoreOptions
    from attn_surgeon.tasks.settings import TaskSettings

    require_device(device)
    named = None if task is None else get_task(task)
    if report is not None:
        require_folder(Path(report))
    path = given_or_newest(artefact)
    open_one = partial(
        open_from_options, weights=weights, args=args, source=source, trust=trust, mean=mean, std=std, size=size
    )
    networks = _open_networks(path, compare, open_one, without_grafts=without_grafts)
    chosen = named or get_task(infer_task(data))
    settings = TaskSettings(
        task=chosen.name,
        limit=limit,
        data_dir=data_dir,
        download=download,
        max_bad=max_bad,
        ignore_index=ignore_index,
        workers=workers,
    )
    with show_steps(f"open {data}"):
        images = open_for_networks(chosen, networks, data, split, settings, by_index=classes_by_index)
    compared = None if compare is None else ComparedNames(path, None if compare == ORIGINAL else compare)
    with progress_bar("evaluate") as progress:
        assessment = assess(
            chosen,
            networks,
            images,
            compared=compared,
            corruption_seed=seed if robust else None,
            options=ScoreOptions(batch_size, workers, device),
            progress=progress,
        )
    document: dict[str, Any] = {"network": path, "data": data, "split": split, "without_grafts": without_grafts}
    document |= {"task": chosen.name, **assessment.document}
    if compare is not None:
        document["compare"] = {"network": compare, **document["compare"]}
    if report is not None:
        _write_report(Path(report), document, chosen, list(zip(networks, images, assessment.scores, strict=True)))
    if as_json:
        print_json(document)
        return
    notes = chain(*(network.notes for network in networks), *(its_images.notes for its_images in images))
    for note in dict.fromkeys(notes):
        print_note(note)
    show_evaluation(document, chosen)


def _open_networks(
    path: str, compare: str | None, open_one: Callable[[str], LoadedNetwork], *, without_grafts: bool
) -> list[LoadedNetwork]:
    """Return the network, and the one to compare it with, after checking that all their grafts run."""
    from attn_surgeon.surgery.graft_check import check

    with show_steps(f"open {path}"):
        network = open_one(path)
        scored = replace(network, model=network.base()) if without_grafts else network
        networks = [scored, *_compared(network, compare, open_one, without_grafts=without_grafts)]
    for each in networks:
        check(each.model, each.example)
    return networks


def _write_report(
    folder: Path, document: dict[str, Any], task: Task, scored: Sequence[tuple[LoadedNetwork, Any, Score]]
) -> None:
    from attn_surgeon.evaluate.report import write_report

    pictures = [task.pictures(network.model, images, score) for network, images, score in scored]
    write_report(folder, json_text(document), pictures)
    note_missing_pictures()


def _compared(
    network: LoadedNetwork, compare: str | None, open_one: Callable[[str], LoadedNetwork], *, without_grafts: bool
) -> list[LoadedNetwork]:
    """Return the network to compare with, if any; raise OptionError where it would be the same one."""
    from attn_surgeon.surgery.installed_grafts import list_grafts

    if compare is None:
        return []
    if compare != ORIGINAL:
        return [open_one(compare)]
    if without_grafts or not list_grafts(network.model):
        what = "the original would be compared with itself"
        raise OptionError(what, f"--compare {ORIGINAL}", "name a network with grafts, and leave --without-grafts out")
    return [replace(network, model=network.base(), notes=())]
