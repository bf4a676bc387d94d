"""`attn-surgeon finetune`: train what a surgery added, and say against a control whether it helped."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from attn_surgeon.cli import completion
from attn_surgeon.cli.files import artefact_or_newest
from attn_surgeon.cli.options import AsJson, OptionError, Own, Source, Weights
from attn_surgeon.cli.output import bar, console, facts, print_json, say, steps, table

if TYPE_CHECKING:
    from attn_surgeon.subject import Subject
    from attn_surgeon.train.control import Job
    from attn_surgeon.train.folders import Request
    from attn_surgeon.train.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon finetune demo-cbam.safetensors --data demo-clutter --control")(finetune)


def finetune(
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
            help="A folder with train/ and val/, each a folder of images per class; torch/NAME, hfds/USER/NAME or "
            "wds/SHARDS, as timm names them; demo, or demo-clutter.",
            show_default=False,
        ),
    ] = None,
    epochs: Annotated[int, typer.Option(metavar="N", help="Times through the images.", min=1)] = 5,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images a step, over all processes.", min=1)] = 64,
    lr: Annotated[float, typer.Option(metavar="RATE", help="Highest learning rate.")] = 1e-3,
    graft_lr_mult: Annotated[float, typer.Option(metavar="FACTOR", help="The grafts' rate, times --lr.")] = 1.0,
    weight_decay: Annotated[float, typer.Option(metavar="DECAY", help="Never on gates, norms, biases.")] = 0.05,
    optimizer: Annotated[str, typer.Option(metavar="NAME", help="adamw or sgd.")] = "adamw",
    warmup: Annotated[float, typer.Option(metavar="SHARE", help="Share of the steps the rate rises in.")] = 0.1,
    clip_grad: Annotated[float, typer.Option(metavar="NORM", help="Longest gradient.")] = 1.0,
    freeze: Annotated[
        str, typer.Option(metavar="PART", help="none, bn (the base's BatchNorms), or base (all but grafts and head).")
    ] = "none",
    label_smoothing: Annotated[float, typer.Option(metavar="SHARE", help="Label smoothing.")] = 0.0,
    ema: Annotated[float, typer.Option(metavar="DECAY", help="Measure and save an average of weights: 0.999.")] = 0.0,
    amp: Annotated[str, typer.Option(metavar="KIND", help="Mixed precision: no, bf16 or fp16.")] = "no",
    accumulate: Annotated[int, typer.Option(metavar="N", help="Batches gathered for a step.", min=1)] = 1,
    workers: Annotated[int, typer.Option(metavar="N", help="Processes that read images.", min=0)] = 0,
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Train on so many images only, evenly over classes.", min=1)
    ] = None,
    val_split: Annotated[
        float | None, typer.Option(metavar="SHARE", help="Measure on a share split off train.", show_default=False)
    ] = None,
    val_data: Annotated[
        str | None, typer.Option(metavar="DATA", help="Measure on other data than --data.", show_default=False)
    ] = None,
    data_dir: Annotated[
        str | None, typer.Option(metavar="DIR", help="Where torch/, hfds/ and wds/ data lies.", show_default=False)
    ] = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch such data where it is not there.")] = False,
    max_bad: Annotated[
        float, typer.Option(metavar="SHARE", help="Stop where more images of a part cannot be read.")
    ] = 0.01,
    leaks: Annotated[
        str, typer.Option(metavar="WORD", help="warn or refuse where images to measure on are trained on too.")
    ] = "warn",
    augment: Annotated[
        bool, typer.Option(help="Augment RGB images: shift and mirror from 32 pixels, crop and mirror from 64.")
    ] = True,
    seed: Annotated[int, typer.Option(metavar="NUMBER", help="The first seed.", min=0, max=2**31)] = 0,
    control: Annotated[bool, typer.Option("--control", help="Train the network without grafts too.")] = False,
    seeds: Annotated[int, typer.Option(metavar="K", help="Repeat with so many seeds.", min=1)] = 1,
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The run folder.", show_default=False)] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="DIR", help="Go on in this run folder, as it was asked for.")
    ] = None,
    checkpoint_steps: Annotated[
        int | None, typer.Option(metavar="N", help="Checkpoint so often, and after each epoch.", min=1)
    ] = None,
    source: Source = None,
    own: Own = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune an operated network; --control trains the one without grafts alike and says whether they helped."""
    from attn_surgeon.train.settings import Settings

    if resume is not None:
        request, folder = _resumed(resume, artefact, data, out), Path(resume)
        subject = _open(request.artefact, source, weights)
        _require_start(request, subject)
    else:
        settings = Settings(
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            graft_lr_mult=graft_lr_mult,
            weight_decay=weight_decay,
            optimizer=optimizer,
            warmup=warmup,
            clip_grad=clip_grad,
            freeze=freeze,
            seed=seed,
            label_smoothing=label_smoothing,
            ema=ema,
            amp=amp,
            accumulate=accumulate,
            workers=workers,
            limit=limit,
            val_split=val_split,
            val_data=val_data,
            data_dir=data_dir,
            download=download,
            max_bad=max_bad,
            leaks=leaks,
            augment=augment,
            checkpoint_steps=checkpoint_steps,
        )
        request, subject = _requested(artefact, data, settings, control, seeds, source, weights)
        folder = Path()
    job = _job(request, subject, folder, out, new=resume is None)
    _carry_out(job, as_json=as_json)


def _resumed(resume: str, artefact: str | None, data: str | None, out: str | None) -> Request:
    from attn_surgeon.train.folders import read_request

    for given, option in ((artefact, "ARTEFACT"), (data, "--data"), (out, "--out")):
        if given is not None:
            raise OptionError(f"{option} is what the run began with", "--resume", f"leave {option} out")
    return read_request(Path(resume))


def _requested(
    artefact: str | None,
    data: str | None,
    settings: Settings,
    control: bool,
    seeds: int,
    source: str | None,
    weights: str | None,
) -> tuple[Request, Subject]:
    from attn_surgeon.train.folders import Request, fingerprint

    if data is None:
        raise OptionError("missing option '--data'", "finetune", "see: attn-surgeon finetune --help")
    path = artefact_or_newest(artefact)
    subject = _open(path, source, weights)
    start = fingerprint(subject.model)
    return Request(str(Path(path).resolve()), data, start, settings, control, seeds), subject


def _open(path: str, source: str | None, weights: str | None) -> Subject:
    from attn_surgeon.subject import open_subject

    with steps(f"open {path}"):
        return open_subject(path, source=source, weights=weights)


def _require_start(request: Request, subject: Subject) -> None:
    from attn_surgeon.train.folders import fingerprint

    if fingerprint(subject.model) != request.start:
        raise OptionError("the artefact is not what the run began with", request.artefact, "start a new run")


def _job(request: Request, subject: Subject, folder: Path, out: str | None, *, new: bool) -> Job:
    """Check everything, then make the folder."""
    from attn_surgeon.train.control import Job, check
    from attn_surgeon.train.folders import new_folder, write_request
    from attn_surgeon.train.head import fitted
    from attn_surgeon.train.parts import guarded, open_parts

    with steps(f"open {request.data}"):
        parts = open_parts(request.data, subject.preprocessing, request.settings)
        subject = fitted(subject, parts.train.class_names, request.settings.seed)
    job = Job(subject, parts, request.settings, folder, request.control, request.seeds)
    check(job)
    if new:
        job = replace(job, folder=new_folder(out, Path(request.artefact).stem))
        write_request(job.folder, request)
    return replace(job, parts=guarded(parts, job.folder, request.settings.max_bad))


def _carry_out(job: Job, *, as_json: bool) -> None:
    from attn_surgeon.train.control import fine_tune

    # between the runs of a job, where nothing is lost, the one ends it as the other does
    before = signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))
    if not as_json:
        for note in (*job.subject.notes, *job.parts.report.notes):
            say(note)
    try:
        with bar("fine-tune") as progress:
            result = fine_tune(job, lambda step, done, total: progress(done, total))
    except KeyboardInterrupt:
        if not as_json:
            say(f"go on with: attn-surgeon finetune --resume {job.folder}")
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
    if as_json:
        print_json(result)
    else:
        _show(result)


def _show(result: dict[str, Any]) -> None:
    out = console()
    out.print(f"[bold]{escape(result['folder'])}[/]", soft_wrap=True)
    images = f"{result['train_images']:,} to train on, {result['images']:,} to measure on"
    added = f"{result['added']['parameters']:,} parameters, {result['added']['macs']:,} MACs"
    out.print(facts([("images", images), ("top-1 before", _percent(result["before"])), ("added", added)]))
    columns = ["seed", "grafts", "control", "difference"]
    rows = [
        [str(run["seed"]), *(_top1(run, arm) for arm in ("grafts", "control")), _points(run["difference"])]
        for run in result["runs"]
    ]
    out.print(table("\ntop-1 after the last epoch", columns, rows, right=columns[1:]))
    out.print(_grafts_table(result))
    if "verdict" in result:
        _show_comparison(result)


def _grafts_table(result: dict[str, Any]) -> Any:
    rows = [
        [
            graft["site"],
            graft["block"],
            f"{graft['parameters']:,}",
            f"{graft['macs']:,}",
            _points(0.0 - sum(graft["closing_costs"]) / len(graft["closing_costs"])),
        ]
        for graft in result["grafts"]
    ]
    columns = ["graft", "block", "parameters", "MACs", "top-1 when closed alone"]
    return table("\ngrafts", columns, rows, right=columns[2:])


def _show_comparison(result: dict[str, Any]) -> None:
    out, test, difference = console(), result["mcnemar"], result["difference"]
    interval = f"{_points(difference['estimate'])}, 95 % {_points(difference['low'])} to {_points(difference['high'])}"
    only = f"right only with grafts {test['only_grafts']:,}, only without {test['only_control']:,}"
    rows = [("difference", f"{interval} ({difference['how']})")]
    rows.append(("McNemar", f"p = {test['p']:.3g}; {only} ({test['how']})"))
    out.print()
    out.print(facts(rows))
    out.print(f"[bold]{escape(result['verdict'])}[/]", soft_wrap=True)


def _top1(run: dict[str, Any], arm: str) -> str:
    return _percent(run[arm]["top1"]) if arm in run else "-"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _points(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:+.2f}"
