"""Hosts that spread a network over processes, here a world of one on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore

from .networks import Residual


@contextmanager
def world() -> Iterator[None]:
    """Be the only process of a group for a while."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def ddp(network: nn.Module, x: Any) -> Any:
    return nn.parallel.DistributedDataParallel(network)


def data_parallel(network: nn.Module, x: Any) -> Any:
    return nn.DataParallel(network)


def fully_sharded(network: nn.Module, x: Any) -> Any:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    for module in reversed(list(network.modules())):
        if isinstance(module, (Residual, nn.Sequential, nn.BatchNorm2d, nn.Conv2d)):
            fully_shard(module, mesh=mesh)
    return fully_shard(network, mesh=mesh)


def fsdp1(network: nn.Module, x: Any) -> Any:
    from torch.distributed.fsdp import FullyShardedDataParallel
    from torch.distributed.fsdp.wrap import ModuleWrapPolicy

    policy = ModuleWrapPolicy({Residual, nn.Sequential})
    return FullyShardedDataParallel(network, auto_wrap_policy=policy, device_id=torch.device("cpu"))
