"""`attn-surgeon bench-blocks`: measure the cost of blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from attn_surgeon.cli import completion
from attn_surgeon.cli.options import AsJson, Device, Own, device_name, read_shape, require_device
from attn_surgeon.cli.output import console, print_json, show_steps, table

if TYPE_CHECKING:
    import torch

    from attn_surgeon.measure.block_benchmark import BlockBenchmark


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command("bench-blocks", epilog="Example: attn-surgeon bench-blocks se cbam --at 256,14,14")(bench_blocks)


def bench_blocks(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[BLOCKS]...", help="Blocks to measure (default: all).", autocompletion=completion.blocks
        ),
    ] = None,
    at: Annotated[str, typer.Option(metavar="C,H,W", help="Shape of the features to run on.")] = "256,14,14",
    batch: Annotated[int, typer.Option(min=1, max=10**6, help="Images in a batch.")] = 8,
    device: Device = "cpu",
    threads: Annotated[int, typer.Option(min=0, max=1024, help="CPU threads; 0: PyTorch's default.")] = 0,
    own: Own = None,
    as_json: AsJson = False,
) -> None:
    """Measure forward, training step and peak memory of blocks, as multiples of a plain copy of their input."""
    import torch

    from attn_surgeon.blocks import BlockSpec, import_user_blocks
    from attn_surgeon.blocks import block_names as catalogue
    from attn_surgeon.measure.block_benchmark import Copy, benchmark_module
    from attn_surgeon.memory import require_memory, size_of_tensors

    require_device(device)
    shape, where = (batch, *read_shape(at)), torch.device(device)
    require_memory(8 * size_of_tensors([shape]), "a training step", "--at", "choose smaller features, or --batch")
    specs = [BlockSpec.read(import_user_blocks(name), {}) for name in names or catalogue()]
    if threads:
        torch.set_num_threads(threads)
    with show_steps("bench") as progress:
        copy = benchmark_module(Copy(), shape, where)
        rows = []
        for spec in specs:
            progress(spec.name)
            rows.append((spec.name, *_benchmark(spec, shape, where)))
    if as_json:
        print_json(_document(shape, where, copy, rows))
        return
    size, time = "×".join(map(str, shape)), copy.forward.text(3)
    console().print(f"multiples of copying a tensor of {size} on {device_name(where)}, which takes {time}")
    console().print("medians, with the quartiles in brackets\n")
    cells = [[name, *_cells(measured and measured.relative_to(copy)), reason] for name, measured, reason in rows]
    columns = ["block", "forward", "training step", "peak memory", ""]
    console().print(table("", columns, cells, right=columns[1:4]))


def _benchmark(spec: Any, shape: tuple[int, int, int, int], where: torch.device) -> tuple[BlockBenchmark | None, str]:
    from attn_surgeon.measure.block_benchmark import benchmark_block

    try:
        return benchmark_block(spec, shape, where), ""
    except ValueError as error:
        return None, str(error)


def _cells(ratios: BlockBenchmark | None) -> list[str]:
    if ratios is None:
        return ["-", "-", "-"]
    times = (ratios.forward, ratios.training)
    return [
        *(f"{each.median:.1f} × ({each.lower:.1f} to {each.upper:.1f})" for each in times),
        f"{ratios.memory:.1f} ×",
    ]


def _document(shape: tuple[int, ...], where: torch.device, copy: BlockBenchmark, rows: list[Any]) -> dict[str, Any]:
    blocks = [
        {
            "name": name,
            "measured": measured and measured.to_dict(),
            "ratios": measured and measured.relative_to(copy).to_dict(),
            "why": why,
        }
        for name, measured, why in rows
    ]
    return {"shape": shape, "device": device_name(where), "copy": copy.to_dict(), "blocks": blocks}
