"""`attn-surgeon bench-blocks`: what blocks cost to run."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attn_surgeon.cli import completion
from attn_surgeon.cli.options import AsJson, Device, Own, device_name, read_shape, require_device
from attn_surgeon.cli.output import console, print_json, steps, table

if TYPE_CHECKING:
    import torch

    from attn_surgeon.measure.block_benchmark import Speed


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command("bench-blocks", epilog="Example: attn-surgeon bench-blocks se cbam --at 256,14,14")(bench_blocks)


def bench_blocks(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BLOCKS]...", help="Blocks to measure; all without.", autocompletion=completion.blocks),
    ] = None,
    at: Annotated[str, typer.Option(metavar="C,H,W", help="The features to run on: C,H,W.")] = "256,14,14",
    batch: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 8,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(min=0, help="Threads on the CPU; 0 leaves it to torch.")] = 0,
    own: Own = None,
    as_json: AsJson = False,
) -> None:
    """Measure forward, training step and peak memory of blocks, as multiples of a plain copy of their input."""
    import torch

    from attn_surgeon.blocks import BlockSpec, adopt
    from attn_surgeon.blocks import names as catalogue
    from attn_surgeon.measure.block_benchmark import Copy, measure

    require_device(device)
    shape, where = (batch, *read_shape(at)), torch.device(device)
    specs = [BlockSpec.read(adopt(name), {}) for name in names or catalogue()]
    if threads:
        torch.set_num_threads(threads)
    with steps("bench") as progress:
        copy = measure(Copy(), shape, where)
        rows = []
        for spec in specs:
            progress(spec.name)
            rows.append((spec.name, *_bench(spec, shape, where)))
    if as_json:
        print_json(_document(shape, where, copy, rows))
        return
    size, microseconds = "×".join(map(str, shape)), f"{copy.forward * 1e6:.0f} µs"
    console().print(f"multiples of a copy of {size} on {device_name(where)}, whose forward takes {microseconds}\n")
    cells = [[name, *_cells(speed and speed.over(copy)), reason] for name, speed, reason in rows]
    columns = ["block", "forward", "training step", "peak memory", ""]
    console().print(table("", columns, cells, right=columns[1:4]))


def _bench(spec: Any, shape: tuple[int, int, int, int], where: torch.device) -> tuple[Speed | None, str]:
    from attn_surgeon.measure.block_benchmark import bench

    try:
        return bench(spec, shape, where), ""
    except ValueError as error:
        return None, str(error)


def _cells(speed: Speed | None) -> list[str]:
    if speed is None:
        return ["-", "-", "-"]
    return [f"{value:.1f} ×" for value in (speed.forward, speed.training, speed.memory)]


def _document(shape: tuple[int, ...], where: torch.device, copy: Speed, rows: list[Any]) -> dict[str, Any]:
    blocks = [
        {"name": name, "measured": speed and asdict(speed), "ratios": speed and asdict(speed.over(copy)), "why": why}
        for name, speed, why in rows
    ]
    return {"shape": shape, "device": device_name(where), "copy": asdict(copy), "blocks": blocks}
