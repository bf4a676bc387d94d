"""Hosts that run a network in other processes than the one it was operated in."""

from __future__ import annotations

import io
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from .distributed import ddp, fully_sharded
from .host import Apply, call


def _written(value: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def _read(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), weights_only=False)


def _work(rank: int, count: int, folder: str, apply: Apply | None, network: bytes, x: bytes) -> None:
    """Load the network, let the tool have it, and write the output down."""
    torch.set_num_threads(1)
    loaded, example = _read(network), _read(x)
    if apply is not None:
        dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=count)
        loaded = apply(loaded, example)
    output = call(loaded, example)
    if rank == 0:
        torch.save(output, Path(folder) / "output")
    if apply is not None:
        dist.barrier()
        os._exit(0)  # gloo's threads may abort a process that ends in the usual way


def _in_processes(count: int, apply: Apply | None) -> Apply:
    def host(network: nn.Module, x: Any) -> Any:
        def run(x: Any) -> Any:
            with tempfile.TemporaryDirectory() as folder:
                arguments = (count, folder, apply, _written(network), _written(x))
                spawn(_work, arguments, nprocs=count)  # type: ignore[no-untyped-call]
                return torch.load(Path(folder) / "output")

        return run

    return host


another_process = _in_processes(1, None)
two_ddp = _in_processes(2, ddp)
two_sharded = _in_processes(2, fully_sharded)
