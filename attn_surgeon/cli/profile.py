"""`attn-surgeon profile`: what a network costs to run, in several runtimes and beside another network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from attn_surgeon.cli import completion
from attn_surgeon.cli.files import given_or_newest, writable
from attn_surgeon.cli.options import (
    Arguments,
    AsJson,
    Force,
    Mean,
    OptionError,
    Own,
    Size,
    Source,
    Std,
    Weights,
    device_name,
    open_from_options,
    read_size,
    require_device,
)
from attn_surgeon.cli.output import print_json, say, steps
from attn_surgeon.errors import nearest

if TYPE_CHECKING:
    from attn_surgeon.artefact.opening import LoadedNetwork
    from attn_surgeon.profiling.entrant import Entrant
    from attn_surgeon.profiling.onnx_file import OnnxFile

ORIGINAL = "original"
DEVICES = ("cpu", "cuda")
ONNX = ".onnx"


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon profile demo-cbam.safetensors --against original")(profile)


def profile(
    network: Annotated[
        str | None,
        typer.Argument(
            help="An artefact, a network as for insert, or an ONNX file; without one, the newest artefact in this"
            " folder.",
            autocompletion=completion.networks,
            show_default=False,
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="Measure this one too, by turns: 'original' for the same network without its grafts, or any other."
            " --source, --weights, --arg, --mean, --std and --size hold for both.",
            autocompletion=completion.networks,
            show_default=False,
        ),
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="eager, compile, onnx, tensorrt, with commas; without, eager, and onnx where one is an ONNX file."
            " tensorrt is ONNX Runtime's provider (untried on a GPU).",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[str, typer.Option(metavar="NUMBERS", help="Images at a time, with commas.")] = "1,8",
    rounds: Annotated[int, typer.Option(metavar="N", help="How often each is timed.", min=2)] = 15,
    device: Annotated[str, typer.Option(metavar="DEVICE", help="cpu; cuda or cuda:1 (untried on a GPU).")] = "cpu",
    picture: Annotated[
        str | None, typer.Option(metavar="FILE", help="Draw the latencies in a .png file.", show_default=False)
    ] = None,
    source: Source = None,
    own: Own = None,
    weights: Weights = None,
    args: Arguments = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Count parameters, MACs and memory, and time a network by runtime, by batch and by graft.

    Memory is that of activations and kernels' workspaces at the peak.

    Times are medians over rounds in which all networks take turns.
    """
    names, batches = read_runtimes(runtime), read_batches(batch)
    _require_known_device(device)
    target = None if picture is None else writable(picture, force=force, suffixes=(".png",), option="--picture")

    import torch

    from attn_surgeon.cli.timings import show
    from attn_surgeon.files import staged
    from attn_surgeon.profiling import measure
    from attn_surgeon.profiling.chart import to_png
    from attn_surgeon.profiling.onnx_file import read_onnx

    path = given_or_newest(network)
    opened = partial(open_from_options, weights=weights, args=args, source=source, mean=mean, std=std, size=size)
    where = torch.device(device)
    with steps(f"profile {path}") as progress:
        entrants = _entrants(path, against, opened, partial(read_onnx, size=read_size(size)))
        is_onnx = path.endswith(ONNX) or (against or "").endswith(ONNX)
        chosen = names or (["onnx"] if is_onnx else ["eager"])
        found = measure.profile(entrants, measure.Wanted(where, chosen, batches, rounds), progress)
    document = {"device": device_name(where), "rounds": rounds, **found}
    if target is not None:
        with staged(target) as temporary:
            temporary.write_bytes(to_png(document))
    if as_json:
        print_json(document)
        return
    for note in (*_notes(entrants), *found["notes"]):
        say(note)
    show(document, picture)


def _entrants(
    path: str, against: str | None, opened: Callable[[str], LoadedNetwork], read: Callable[[str], OnnxFile]
) -> list[Entrant]:
    """Open the network and the one beside it; raise OptionError where there is no original."""
    from attn_surgeon.profiling.entrant import Entrant, original

    def given(text: str) -> LoadedNetwork | OnnxFile:
        return read(text) if text.endswith(ONNX) else opened(text)

    first = Entrant(path, given(path))
    if against is None:
        return [first]
    if against != ORIGINAL:
        return [first, Entrant(against if against != path else f"{against} again", given(against))]
    bare = original(first.given)
    if bare is None:
        raise OptionError("this network has no grafts", f"--against {ORIGINAL}", "name the other network")
    return [first, Entrant(ORIGINAL, bare)]


def _notes(entrants: Sequence[Entrant]) -> list[str]:
    return [note for entrant in entrants for note in entrant.given.notes]


def read_runtimes(text: str | None) -> list[str]:
    """Read runtimes' names, each once; raise OptionError for one that is none."""
    from attn_surgeon.profiling.runtimes import RUNTIMES

    names = [] if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in RUNTIMES:
            hint = nearest(name, RUNTIMES) or f"known: {', '.join(RUNTIMES)}"
            raise OptionError(f"there is no runtime '{name}'", "--runtime", hint)
    return list(dict.fromkeys(names))


def read_batches(text: str) -> list[int]:
    """Read batch sizes, each once; raise OptionError for one that is none."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise OptionError(f"'{text}' is no list of batch sizes", "--batch", "write it as 1,8")
    return list(dict.fromkeys(map(int, parts)))


def _require_known_device(device: str) -> None:
    """Refuse devices that cannot be timed, and those that this machine does not have."""
    if device.partition(":")[0] not in DEVICES:
        hint = nearest(device, DEVICES) or f"known: {', '.join(DEVICES)}"
        raise OptionError(f"there is no timing on the device '{device}'", "--device", hint)
    require_device(device)
