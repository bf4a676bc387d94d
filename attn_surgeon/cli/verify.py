"""`attn-surgeon verify`: check an artefact again."""

from __future__ import annotations

import typer

from attn_surgeon.cli.files import artefact_or_newest
from attn_surgeon.cli.options import ArtefactPath, AsJson, Own, Source, Trust, Weights
from attn_surgeon.cli.output import console, print_certificate, print_json, show_steps


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon verify demo-cbam.safetensors")(verify)


def verify(
    artefact: ArtefactPath = None,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Check an artefact again, against its original rebuilt with its stored weights. Exit 1 where a check fails."""
    from attn_surgeon.artefact.insertion import certify_loaded
    from attn_surgeon.artefact.load import load_original
    from attn_surgeon.artefact.open_network import open_network

    path = artefact_or_newest(artefact)
    with show_steps(f"verify {path}") as progress:
        loaded = open_network(path, source=source, trust=trust, weights=weights)
        original = load_original(path, source=source, trust=trust, weights=weights)
        certificate = certify_loaded(original, loaded.model, loaded, progress)
    if as_json:
        print_json({"artefact": path, "certificate": certificate.to_dict()})
    else:
        print_certificate(certificate, console())
    if not certificate.passed:
        raise typer.Exit(1)
