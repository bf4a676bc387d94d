"""`attn-surgeon finetune`: train what a surgery added, and say against a control whether it helped."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from attn_surgeon.cli import completion
from attn_surgeon.cli.files import artefact_or_newest
from attn_surgeon.cli.options import AsJson, OptionError, Own, Source, Weights
from attn_surgeon.cli.output import bar, console, facts, print_json, print_table, say, steps, table
from attn_surgeon.cli.settings import typed, with_settings
from attn_surgeon.finetune.settings import Settings, flag

if TYPE_CHECKING:
    from attn_surgeon.artefact.opening import LoadedNetwork
    from attn_surgeon.finetune.control import Job
    from attn_surgeon.finetune.run_folders import Request

OF_SEGMENTATION = ("crop", "crops", "overlap", "ignore_index", "dice")
WITH_RESUME = ("resume", "source", "own", "weights", "as_json")


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon finetune demo-cbam.safetensors --data demo-clutter --control")(finetune)


@with_settings
def finetune(
    context: typer.Context,
    artefact: Annotated[
        str | None,
        typer.Argument(
            help="An artefact; without one, the newest in this folder.",
            autocompletion=completion.artefacts,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="A folder with train/ and val/, each a folder of images per class, or with images/ and masks/;"
            " torch/NAME, hfds/USER/NAME or wds/SHARDS, as timm names them; demo, or demo-clutter.",
            show_default=False,
        ),
    ] = None,
    settings: Any = None,
    control: Annotated[bool, typer.Option("--control", help="Train the network without grafts too.")] = False,
    seeds: Annotated[int, typer.Option(metavar="K", help="Repeat with so many seeds.", min=1)] = 1,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The run folder.", show_default=False)] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="DIR", help="Go on in this run folder, as it was asked for.")
    ] = None,
    source: Source = None,
    own: Own = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune an operated network; --control trains the one without grafts alike and says whether they helped."""

    _speak_once()
    if resume is not None:
        request, folder = _resumed(resume, context), Path(resume)
        loaded = _open(request.artefact, source, weights)
        _require_start(request, loaded)
    else:
        _require_used(typed(context), settings)
        request, loaded = _requested(artefact, data, Settings(**settings), control, seeds, source, weights)
        folder = Path()
    job = _job(request, loaded, folder, out, new=resume is None)
    _carry_out(job, as_json=as_json)


def _resumed(resume: str, context: typer.Context) -> Request:
    from attn_surgeon.finetune.run_folders import read_request

    begun_with = [name for name in typed(context) if name not in WITH_RESUME]
    if begun_with:
        names = ", ".join("ARTEFACT" if name == "artefact" else flag(name) for name in begun_with)
        raise OptionError(f"a resumed run goes on as it began: {names}", "--resume", f"leave {names} out")
    return read_request(Path(resume))


def _require_used(names: list[str], settings: dict[str, Any]) -> None:
    """Refuse options that would do nothing beside others."""
    if "epochs" in names and settings["stages"] is not None:
        raise OptionError("--stages says how many epochs there are", "--epochs", "leave --epochs out")
    for name in names:
        if name in OF_SEGMENTATION and settings["task"] != "segmentation":
            raise OptionError("this is for segmentation only", flag(name), "add --task segmentation, or leave it out")


def _requested(
    artefact: str | None,
    data: str | None,
    settings: Settings,
    control: bool,
    seeds: int,
    source: str | None,
    weights: str | None,
) -> tuple[Request, LoadedNetwork]:
    from attn_surgeon.finetune.run_folders import Request, fingerprint

    if data is None:
        raise OptionError("missing option '--data'", "finetune", "see: attn-surgeon finetune --help")
    path = artefact_or_newest(artefact)
    loaded = _open(path, source, weights)
    start = fingerprint(loaded.model)
    return Request(str(Path(path).resolve()), data, start, settings, control, seeds), loaded


def _open(path: str, source: str | None, weights: str | None) -> LoadedNetwork:
    from attn_surgeon.artefact.opening import open_network

    with steps(f"open {path}"):
        return open_network(path, source=source, weights=weights)


def _require_start(request: Request, loaded: LoadedNetwork) -> None:
    from attn_surgeon.finetune.run_folders import fingerprint

    if fingerprint(loaded.model) != request.start:
        raise OptionError("the artefact is not what the run began with", request.artefact, "start a new run")


def _job(request: Request, loaded: LoadedNetwork, folder: Path, out: str | None, *, new: bool) -> Job:
    """Check everything, then make the folder."""
    from attn_surgeon.data.parts import guarded
    from attn_surgeon.data.processes import by_first
    from attn_surgeon.finetune.control import Job, check
    from attn_surgeon.tasks.base import get_task

    task = get_task(request.settings.task)
    with steps(f"open {request.data}"):
        parts = task.open_parts(request.data, loaded.preprocessing, request.settings)
        loaded = task.fitted(loaded, parts.train.class_names, request.settings)
    job = Job(loaded, parts, request.settings, folder, request.control, request.seeds)
    check(job)
    folder = by_first(lambda: _new_folder(request, out)) if new else folder
    return replace(job, folder=folder, parts=guarded(parts, folder, request.settings.max_bad))


def _new_folder(request: Request, out: str | None) -> Path:
    from attn_surgeon.finetune.run_folders import new_folder, write_request

    folder = new_folder(out, Path(request.artefact).stem)
    write_request(folder, request)
    return folder


def _speak_once() -> None:
    """Let only the first of several processes print; what goes wrong in another it still says."""
    from attn_surgeon.data.processes import is_first

    if not is_first():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - as long as the process


def _carry_out(job: Job, *, as_json: bool) -> None:
    from attn_surgeon.data.processes import is_first
    from attn_surgeon.finetune.allocation import keep_freed_memory
    from attn_surgeon.finetune.control import fine_tune

    keep_freed_memory()
    # between the runs of a job, where nothing is lost, the one ends it as the other does
    before = signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    speaks = is_first() and not as_json
    for note in (*job.loaded.notes, *job.parts.report.notes) if speaks else ():
        say(note)
    try:
        with bar("fine-tune") if is_first() else nullcontext(lambda done, total: None) as progress:
            result = fine_tune(job, lambda step, done, total: progress(done, total))
    except KeyboardInterrupt:
        if speaks:
            say(f"go on with: attn-surgeon finetune --resume {job.folder}")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    out, title = console(), result["title"]
    out.print(f"[bold]{escape(result['folder'])}[/]", soft_wrap=True)
    images = f"{result['train_images']:,} to train on, {result['images']:,} to measure on"
    if result["data"]["unreadable"]:
        images += f"; {result['data']['unreadable']:,} cannot be read, see bad-images.txt"
    rows = [("images", images), (f"{title} before", _percent(result["before"])), ("added", _added(result["added"]))]
    out.print(facts(rows))
    columns = ["seed", "grafts", "control", "difference"]
    lines = [
        [str(run["seed"]), *(_metric(result, run, arm) for arm in ("grafts", "control")), _points(run["difference"])]
        for run in result["runs"]
    ]
    print_table(out, table(f"\n{title} after the last epoch", columns, lines, right=columns[1:]))
    if "iou" in result["runs"][0]["grafts"]:
        print_table(out, _classes_table(result))
    if result["grafts"]:
        print_table(out, _grafts_table(result))
    if "verdict" in result:
        _show_comparison(result)


def _added(added: dict[str, Any]) -> str:
    slower = f"{added['latency_ms']:.2f} ms an image, without grafts {added['latency_without_ms']:.2f}"
    return f"{added['parameters']:,} parameters, {added['macs']:,} MACs; {slower}"


def _grafts_table(result: dict[str, Any]) -> Any:
    rows = [
        [
            graft["site"],
            graft["block"],
            f"{graft['parameters']:,}",
            f"{graft['macs']:,}",
            f"{_mean(graft['opened']):.3f}",
            _points(0.0 - _mean(graft["closing_costs"])),
        ]
        for graft in result["grafts"]
    ]
    columns = ["graft", "block", "parameters", "MACs", "opened", f"{result['title']} when closed alone"]
    return table("\ngrafts", columns, rows, right=columns[2:])


def _classes_table(result: dict[str, Any]) -> Any:
    """Show each class's IoU, the mean of all seeds."""
    arms = [arm for arm in ("grafts", "control") if arm in result["runs"][0]]
    rows = [
        [name, *(_shared([run[arm]["iou"][name] for run in result["runs"]]) for arm in arms)]
        for name in result["runs"][0]["grafts"]["iou"]
    ]
    return table("\nIoU of each class", ["class", *arms], rows, right=arms)


def _shared(values: list[float | None]) -> str:
    known = [value for value in values if value is not None]
    return _percent(_mean(known)) if known else "-"


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _show_comparison(result: dict[str, Any]) -> None:
    out, test, difference = console(), result.get("mcnemar"), result["difference"]
    interval = f"{_points(difference['estimate'])}, 95 % {_points(difference['low'])} to {_points(difference['high'])}"
    rows = [("difference", f"{interval} ({difference['how']})")]
    if test is not None:
        only = f"right only with grafts {test['only_grafts']:,}, only without {test['only_control']:,}"
        rows.append(("McNemar", f"p = {test['p']:.3g}; {only} ({test['how']})"))
    if (ranks := result.get("wilcoxon")) is not None:
        images = f"better on {ranks['better']:,} images, worse on {ranks['worse']:,}"
        rows.append(("signed-rank", f"p = {ranks['p']:.3g}; {images} (the mean over seeds of each image)"))
    out.print()
    out.print(facts(rows))
    out.print(f"[bold]{escape(result['verdict'])}[/]", soft_wrap=True)


def _metric(result: dict[str, Any], run: dict[str, Any], arm: str) -> str:
    return _percent(run[arm][result["metric"]]) if arm in run else "-"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.2f}"
