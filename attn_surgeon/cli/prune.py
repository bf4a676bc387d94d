"""`attn-surgeon prune`: remove the grafts that validation data does not need."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.markup import escape

from attn_surgeon.cli.evaluate_options import BatchSize, Limit, Split, TaskName
from attn_surgeon.cli.files import artefact_or_newest, size_text, writable
from attn_surgeon.cli.options import (
    ArtefactPath,
    AsJson,
    Device,
    Force,
    Output,
    Own,
    Source,
    Trust,
    Weights,
    require_device,
)
from attn_surgeon.cli.output import (
    console,
    json_text,
    print_certificate,
    print_json,
    progress_bar,
    rich_table,
    show_steps,
)
from attn_surgeon.cli.scout_options import Certain, JsonFile, MaxLoss, ValidationData


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon prune run/best.safetensors --data flowers/ --max-loss 0.1")(prune)


def prune(
    data: ValidationData,
    artefact: ArtefactPath = None,
    max_loss: MaxLoss = 0.1,
    certain: Certain = False,
    split: Split = "val",
    limit: Limit = None,
    task: TaskName = None,
    batch_size: BatchSize = 256,
    device: Device = "cpu",
    report: JsonFile = None,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Remove grafts one by one as long as the network loses little on validation data; nothing is trained.

    The artefact that is written has a certificate of its own.
    """
    require_device(device)
    path = artefact_or_newest(artefact)
    target = writable(output or f"{Path(path).stem}-pruned.safetensors", force=force)
    document = None if report is None else writable(report, force=force, suffixes=(".json",), option="--report")

    from attn_surgeon.artefact.insertion import certify_loaded
    from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
    from attn_surgeon.artefact.save import save
    from attn_surgeon.files import write_atomically
    from attn_surgeon.scouting.prune import prune as prune_network
    from attn_surgeon.tasks.base import ScoreOptions

    with show_steps(f"open {path}"):
        loaded = open_network(path, source=source, trust=trust, weights=weights)
    with progress_bar("prune") as progress:
        found = prune_network(
            loaded,
            data=data,
            max_loss=max_loss,
            certain=certain,
            split=split,
            limit=limit,
            task=task,
            options=ScoreOptions(batch_size, device=device),
            progress=progress,
        )
    with show_steps("certify") as step:
        certificate = certify_loaded(loaded.base(), found.model.cpu(), LoadedNetwork(found.model), step)
    written = bool(found.removed) and certificate.passed
    if written:
        save(found.model, target, certificate=certificate, overwrite=True)
    result = {"artefact": path, "data": data, "split": split, **found.to_dict(), "certificate": certificate.to_dict()}
    result["output"] = str(target) if written else None
    if document is not None:
        write_atomically(document, json_text(result))
    if as_json:
        print_json(result)
    else:
        out = console()
        out.print(rich_table(found.table))
        out.print(escape(f"\n{found.summary}"), soft_wrap=True)
        if found.removed:
            print_certificate(certificate, out)
        if written:
            out.print(f"wrote [bold]{escape(str(target))}[/] ({size_text(target)})", soft_wrap=True)
    if not written:
        raise typer.Exit(1)
