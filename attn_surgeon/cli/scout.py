"""`attn-surgeon scout`: score blocks at sites before any training, and write a plan."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from attn_surgeon.cli.evaluate_options import TaskName
from attn_surgeon.cli.files import writable
from attn_surgeon.cli.options import (
    AllowPartial,
    Arguments,
    AsJson,
    Device,
    Force,
    Mean,
    Network,
    Own,
    Size,
    Source,
    Std,
    Trust,
    Weights,
    network_options,
    open_from_options,
    require_device,
)
from attn_surgeon.cli.output import (
    console,
    json_text,
    note_missing_pictures,
    print_json,
    print_note,
    progress_bar,
    rich_table,
    show_steps,
)
from attn_surgeon.cli.scout_options import (
    AtOnce,
    Batches,
    Blocks,
    BudgetText,
    EveryScore,
    FitHead,
    Groups,
    HeadImages,
    ImageSeed,
    ImagesPerBatch,
    JsonFile,
    LatencyText,
    Picture,
    PlanOutput,
    ScoreName,
    TrainingData,
    TrialSteps,
)
from attn_surgeon.cli.site_options import After, Before, Exclude
from attn_surgeon.errors import for_command_line
from attn_surgeon.files import write_atomically
from attn_surgeon.optional_dependencies import is_installed
from attn_surgeon.scouting.settings import BLOCKS, ScoutSettings

if TYPE_CHECKING:
    from attn_surgeon.scouting.result import Scouting


DEFAULT_BLOCKS = ",".join(BLOCKS)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon scout demo --data demo-clutter --blocks se,cbam -o scout.yaml")(scout)


def scout(
    context: typer.Context,
    network: Network,
    data: TrainingData,
    blocks: Blocks = DEFAULT_BLOCKS,
    at: Groups = None,
    after: After = None,
    before: Before = None,
    exclude: Exclude = None,
    budget: BudgetText = "5%",
    latency: LatencyText = None,
    score: ScoreName = ScoutSettings.score,
    every_score: EveryScore = False,
    task: TaskName = None,
    batches: Batches = ScoutSettings.batches,
    batch_size: ImagesPerBatch = ScoutSettings.batch_size,
    head_images: HeadImages = ScoutSettings.head_images,
    fit_head: FitHead = None,
    at_once: AtOnce = ScoutSettings.at_once,
    trial_steps: TrialSteps = ScoutSettings.trial_steps,
    device: Device = ScoutSettings.device,
    seed: ImageSeed = ScoutSettings.seed,
    report: JsonFile = None,
    picture: Picture = None,
    output: PlanOutput = None,
    weights: Weights = None,
    args: Arguments = None,
    allow_partial: AllowPartial = False,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Score blocks at sites by gradients before any training, and choose a set under a budget.

    The plan is a recipe: attn-surgeon insert NETWORK --plan FILE.yaml inserts the set.
    """
    from attn_surgeon.scouting.scoring import DEFINITIONS
    from attn_surgeon.scouting.scout import scout_network

    plan = None if output is None else writable(output, force=force, suffixes=(".yaml", ".yml"))
    document = None if report is None else writable(report, force=force, suffixes=(".json",), option="--report")
    image = None if picture is None else writable(picture, force=force, suffixes=(".png",), option="--picture")
    require_device(device)
    others = DEFINITIONS if every_score else ()
    settings = ScoutSettings(
        score, others, batches, batch_size, head_images, fit_head, at_once, trial_steps, device, seed
    )
    with show_steps(f"open {network}"):
        loaded = open_from_options(
            network,
            weights=weights,
            args=args,
            source=source,
            trust=trust,
            mean=mean,
            std=std,
            size=size,
            allow_partial=allow_partial,
        )
    with progress_bar("scout") as progress:
        found = scout_network(
            loaded,
            name=network,
            data=data,
            blocks=_names(blocks),
            at=_names(at or ""),
            after=after or (),
            before=before or (),
            exclude=exclude or (),
            budget=budget,
            latency=latency,
            task=task,
            settings=settings,
            progress=progress,
        )
    _write(found, plan, document, image)
    if as_json:
        print_json(_document(found))
    else:
        _show(found)
        if plan is not None and found.chosen:
            command = shlex.join(["attn-surgeon", "insert", network, *network_options(context), "--plan", str(plan)])
            line = f"wrote [bold]{escape(str(plan))}[/]; insert it with: {escape(command)}"
            console().print(line, soft_wrap=True)
    if not found.chosen:
        raise typer.Exit(1)


def _names(text: str) -> list[str]:
    """Return names with commas between them; commas in braces are part of a glob."""
    return [part for part in re.split(r",(?![^{]*})", text) if part]


def _write(found: Scouting, plan: Path | None, document: Path | None, image: Path | None) -> None:
    """Write the files that were asked for; a plan only where something was chosen."""
    if plan is not None and found.chosen:
        found.save(plan)
    if document is not None:
        write_atomically(document, json_text(_document(found)))
    if image is not None and is_installed("matplotlib"):
        from attn_surgeon.scouting.chart import scouting_png

        write_atomically(image, scouting_png(found))
    elif image is not None:
        note_missing_pictures()


def _document(found: Scouting) -> dict[str, Any]:
    verdict = None if found.trial is None else for_command_line(found.trial.verdict)
    return {**found.to_dict(), "notes": [for_command_line(note) for note in found.notes], "verdict": verdict}


def _show(found: Scouting) -> None:
    for note in found.notes:
        print_note(note)
    out = console()
    out.print(rich_table(found.table))
    out.print(escape(found.legend), style="dim", soft_wrap=True)
    out.print(escape(f"\n{found.summary}"), soft_wrap=True)
    if found.trial is not None:
        out.print(escape(f"\n{for_command_line(found.trial.verdict)}"), soft_wrap=True)
