"""`attn-surgeon profile`: the cost of a network in several runtimes, and beside another network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import typer

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
    Trust,
    Weights,
    device_name,
    open_from_options,
    read_size,
    require_device,
)
from attn_surgeon.cli.output import print_json, print_note, show_steps
from attn_surgeon.cli.profile_options import (
    Against,
    Batches,
    Picture,
    ProfileDevice,
    ProfiledNetwork,
    Rounds,
    Runtimes,
    TimeLimit,
)
from attn_surgeon.errors import for_command_line, nearest
from attn_surgeon.optional_dependencies import require_extra
from attn_surgeon.validation import read_count

if TYPE_CHECKING:
    from attn_surgeon.artefact.open_network import LoadedNetwork
    from attn_surgeon.profiling.onnx_file import OnnxInput
    from attn_surgeon.profiling.profiled_network import ProfileInput

ORIGINAL = "original"
DEVICES = ("cpu", "cuda")
ONNX = ".onnx"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon profile demo-cbam.safetensors --against original")(profile)


def profile(
    network: ProfiledNetwork = None,
    against: Against = None,
    runtime: Runtimes = None,
    batch: Batches = "1,8",
    rounds: Rounds = 15,
    device: ProfileDevice = "cpu",
    time_limit: TimeLimit = None,
    picture: Picture = None,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    args: Arguments = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Measure a network's parameters, MACs, memory and latency, by runtime, batch size and graft.

    Memory is the peak of activations and kernels' workspaces.

    Latencies are medians with quartiles over rounds; each round times all networks in turn.
    """
    names, batches = read_runtimes(runtime), read_batches(batch)
    _require_known_device(device)
    target = None if picture is None else writable(picture, force=force, suffixes=(".png",), option="--picture")
    if target is not None:
        require_extra("draw", "matplotlib", what="--picture")

    import torch

    from attn_surgeon.cli.timings import show
    from attn_surgeon.files import staged
    from attn_surgeon.profiling import profiler
    from attn_surgeon.profiling.latency_chart import to_png
    from attn_surgeon.profiling.onnx_file import read_onnx

    path = given_or_newest(network)
    open_one = partial(
        open_from_options, weights=weights, args=args, source=source, trust=trust, mean=mean, std=std, size=size
    )
    torch_device = torch.device(device)
    with show_steps(f"profile {path}") as progress:
        inputs = [
            replace(item, time_limit=time_limit)
            for item in _inputs(path, against, open_one, partial(read_onnx, size=read_size(size)))
        ]
        is_onnx = path.endswith(ONNX) or (against or "").endswith(ONNX)
        chosen = names or (["onnx"] if is_onnx else ["eager"])
        settings = profiler.ProfileSettings(torch_device, chosen, batches, rounds)
        measured = profiler.profile(inputs, settings, progress)
    notes = [for_command_line(note) for note in measured["notes"]]
    document = {"device": device_name(torch_device), "rounds": rounds, **measured, "notes": notes}
    if target is not None:
        with staged(target) as temporary:
            temporary.write_bytes(to_png(document))
    if as_json:
        print_json(document)
        return
    for note in (*(note for item in inputs for note in item.source.notes), *notes):
        print_note(note)
    show(document, picture)


def _inputs(
    path: str, against: str | None, open_one: Callable[[str], LoadedNetwork], read: Callable[[str], OnnxInput]
) -> list[ProfileInput]:
    """Open the network and the one to compare with; raise OptionError where there is no original."""
    from attn_surgeon.profiling.profiled_network import ProfileInput, original

    def open_input(text: str) -> LoadedNetwork | OnnxInput:
        return read(text) if text.endswith(ONNX) else open_one(text)

    first = ProfileInput(path, open_input(path))
    if against is None:
        return [first]
    if against != ORIGINAL:
        return [first, ProfileInput(against if against != path else f"{against} again", open_input(against))]
    base = original(first.source)
    if base is None:
        raise OptionError("this network has no grafts", f"--against {ORIGINAL}", "name another network")
    return [first, ProfileInput(ORIGINAL, base)]


def read_runtimes(text: str | None) -> list[str]:
    """Return the names of runtimes, without duplicates; raise OptionError for an unknown one."""
    from attn_surgeon.profiling.runtimes import RUNTIMES

    names = [] if text is None else [name.strip() for name in text.split(",")]
    for name in names:
        if name not in RUNTIMES:
            hint = nearest(name, RUNTIMES) or f"known: {', '.join(RUNTIMES)}"
            raise OptionError(f"unknown runtime '{name}'", "--runtime", hint)
    return list(dict.fromkeys(names))


def read_batches(text: str) -> list[int]:
    """Return batch sizes, without duplicates; raise OptionError for an invalid one."""
    sizes = [read_count(part) for part in text.split(",")]
    valid = [size for size in sizes if size is not None]
    if len(valid) < len(sizes):
        raise OptionError(f"invalid batch sizes '{text}'", "--batch", "write it as 1,8")
    return list(dict.fromkeys(valid))


def _require_known_device(device: str) -> None:
    """Raise OptionError for a device that cannot be timed, or that this machine lacks."""
    if device.partition(":")[0] not in DEVICES:
        hint = nearest(device, DEVICES) or f"known: {', '.join(DEVICES)}"
        raise OptionError(f"unknown device '{device}'", "--device", hint)
    require_device(device)
