"""`attn-surgeon finetune`: train what a surgery added, and compare it with a control."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attn_surgeon.cli import completion
from attn_surgeon.cli.files import artefact_or_newest, claim, own_artefacts
from attn_surgeon.cli.finetune.printing import show
from attn_surgeon.cli.options import AsJson, OptionError, Own, Source, Trust, Weights
from attn_surgeon.cli.output import note_missing_pictures, phase_bars, print_json, print_note, show_steps
from attn_surgeon.cli.setting_options import flag, typed, with_settings
from attn_surgeon.finetune.config import FinetuneConfig, read_config
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.progress import no_phases

if TYPE_CHECKING:
    from attn_surgeon.artefact.open_network import LoadedNetwork
    from attn_surgeon.finetune.job import FinetuneJob
    from attn_surgeon.finetune.run_folders import FinetuneRequest

ALLOWED_WITH_RESUME = ("resume", "source", "own", "trust", "weights", "as_json")
RUN = "Run"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon finetune demo-cbam.safetensors --data demo-clutter --control")(finetune)


@with_settings
def finetune(
    context: typer.Context,
    artefact: Annotated[
        str | None,
        typer.Argument(
            help="An artefact (default: the newest in this folder).",
            autocompletion=completion.artefacts,
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="A folder with train/ and val/, each with one folder of images per class, or with images/ and masks/;"
            " a folder of images with boxes in COCO, Pascal VOC or YOLO format;"
            " torch/NAME, hfds/USER/NAME or wds/SHARDS, as timm names them; demo, demo-clutter or demo-boxes.",
            show_default=False,
            rich_help_panel="Data",
        ),
    ] = None,
    settings: Any = None,
    control: Annotated[
        bool,
        typer.Option(
            "--control", help="Train the network without grafts too, and test the difference.", rich_help_panel=RUN
        ),
    ] = False,
    seeds: Annotated[
        int, typer.Option(metavar="K", help="Number of training runs, with consecutive seeds.", rich_help_panel=RUN)
    ] = 1,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Run folder (default: a new one under runs/).",
            show_default=False,
            rich_help_panel=RUN,
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Read options from this file, by their names; those on the command line take precedence.",
            rich_help_panel=RUN,
        ),
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="DIR", help="Resume this run with its saved options.", rich_help_panel=RUN)
    ] = None,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Fine-tune a network with grafts; --control trains the one without them too and tests whether they help."""
    from attn_surgeon.artefact.tensors import fingerprint
    from attn_surgeon.data.distributed import is_first, run_on_first
    from attn_surgeon.finetune.run_folders import new_run, read_request, require_unused

    _silence_other_processes()
    names = typed(context)
    if resume is not None:
        _require_nothing_else(names)
        if is_first():
            claim(Path(resume))
        request = read_request(Path(resume))
        network = _open(request.artefact, source, trust, weights)
        if fingerprint(network.model) != request.start:
            raise OptionError(
                "the artefact is not the one that the run started from", request.artefact, "start a new run"
            )
        _require_same_data(request)
        job = _open_job(request, network)
        folder = Path(resume)
    else:
        values = {**settings, "artefact": artefact, "data": data, "control": control, "seeds": seeds}
        chosen, known = _merged({name: values[name] for name in names if name in values}, config)
        _require_used([*names, *known], chosen.settings)
        path, spec = _required(chosen)
        if out is not None:
            require_unused(Path(out))
        network = _open(path, source, trust, weights)
        request = _request(chosen, path, spec, network)
        job = _open_job(request, network)
        folder = run_on_first(lambda: new_run(out, request))
    _run(job.at(folder), as_json=as_json)


def _merged(values: dict[str, Any], config: str | None) -> tuple[FinetuneConfig, list[str]]:
    """Return the options of a file, overridden by those on the command line, and the names in the file."""
    base, known = (FinetuneConfig(), []) if config is None else read_config(Path(config))
    own = {item.name for item in fields(FinetuneSettings)}
    settings = replace(base.settings, **{name: value for name, value in values.items() if name in own})
    return replace(base, settings=settings, **{name: value for name, value in values.items() if name not in own}), known


def _require_nothing_else(names: list[str]) -> None:
    others = [name for name in names if name not in ALLOWED_WITH_RESUME]
    if others:
        listed = ", ".join("ARTEFACT" if name == "artefact" else flag(name) for name in others)
        raise OptionError(f"a run is resumed with its saved options: {listed}", "--resume", f"leave {listed} out")


def _require_used(names: list[str], settings: FinetuneSettings) -> None:
    """Raise OptionError for options that have no effect beside others."""
    if "epochs" in names and settings.stages is not None:
        raise OptionError("--stages sets the number of epochs", "--epochs", "leave --epochs out")
    for item in fields(FinetuneSettings):
        only = item.metadata.get("only")
        if item.name in names and only not in (None, settings.task):
            raise OptionError(f"this is for {only} only", flag(item.name), f"add --task {only}, or leave it out")


def _required(chosen: FinetuneConfig) -> tuple[str, str]:
    """Return the artefact and the data; raise OptionError that names what is missing."""
    if chosen.data is None:
        missing = "option '--data'"
        if chosen.artefact is None and not own_artefacts(Path()):
            missing = "argument 'ARTEFACT' and option '--data'"
        hint = "expected: attn-surgeon finetune ARTEFACT --data DATA; see: attn-surgeon finetune --help"
        raise OptionError(f"missing {missing}", "finetune", hint)
    return artefact_or_newest(chosen.artefact), chosen.data


def _request(chosen: FinetuneConfig, path: str, data: str, network: LoadedNetwork) -> FinetuneRequest:
    from attn_surgeon.artefact.tensors import fingerprint
    from attn_surgeon.data.state import read_data_state
    from attn_surgeon.finetune.run_folders import FinetuneRequest

    start, files = fingerprint(network.model), read_data_state(data, chosen.settings)
    artefact = str(Path(path).resolve())
    return FinetuneRequest(artefact, data, start, chosen.settings, chosen.control, chosen.seeds, files)


def _require_same_data(request: FinetuneRequest) -> None:
    """Raise DataError if the data has changed since the run started; opening it reports data that is gone."""
    from attn_surgeon.data.state import read_data_state, require_same_data

    now = read_data_state(request.data, request.settings)
    if request.files and now:
        require_same_data(request.files, now, request.data)


def _open(path: str, source: str | None, trust: bool, weights: str | None) -> LoadedNetwork:
    from attn_surgeon.artefact.open_network import open_network

    with show_steps(f"open {path}"):
        return open_network(path, source=source, trust=trust, weights=weights)


def _open_job(request: FinetuneRequest, network: LoadedNetwork) -> FinetuneJob:
    from attn_surgeon.finetune.job import open_job

    with show_steps(f"open {request.data}"):
        return open_job(network, request.data, request.settings, control=request.control, seeds=request.seeds)


def _silence_other_processes() -> None:
    """Silence standard output in all processes but the first; errors are still printed."""
    from attn_surgeon.data.distributed import is_first

    if not is_first():
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - open until the process ends


def _run(job: FinetuneJob, *, as_json: bool) -> None:
    from attn_surgeon.data.distributed import is_first
    from attn_surgeon.finetune.control_run import fine_tune
    from attn_surgeon.finetune.memory_allocator import keep_freed_memory

    keep_freed_memory()
    prints = is_first() and not as_json
    for note in (*job.network.notes, *job.splits.report.notes) if prints else ():
        print_note(note)
    try:
        with phase_bars() if is_first() else nullcontext(no_phases) as progress:
            result = fine_tune(job, progress)
    except KeyboardInterrupt:
        if prints:
            print_note(f"resume with: attn-surgeon finetune --resume {job.folder}")
        raise
    if as_json:
        print_json(result)
    else:
        show(result, job)
    if prints:
        note_missing_pictures()
