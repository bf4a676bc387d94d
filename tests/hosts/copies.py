"""Hosts that copy, store, average or cast a network."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def deepcopied(network: nn.Module, x: Any) -> Any:
    return copy.deepcopy(network)


def copied(network: nn.Module, x: Any) -> Any:
    return copy.copy(network)


def pickled(network: nn.Module, x: Any) -> Any:
    return pickle.loads(pickle.dumps(network))


def torch_saved(network: nn.Module, x: Any) -> Any:
    buffer = io.BytesIO()
    torch.save(network, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=False)


def swa_averaged(network: nn.Module, x: Any) -> Any:
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)  # type: ignore[no-untyped-call]
    average.update_parameters(network)
    return average.eval()


def timm_ema(network: nn.Module, x: Any) -> Any:
    from timm.utils import ModelEmaV3

    average = ModelEmaV3(network, decay=0.9)
    average.update(network)
    return average.module


def meta_filled(network: nn.Module, x: Any) -> Any:
    state = {key: value.clone() for key, value in network.state_dict().items()}
    network = copy.deepcopy(network).to("meta").to_empty(device="cpu")
    network.load_state_dict(state)
    return network


def half(network: nn.Module, x: Any) -> Any:
    network.half()
    return lambda x: network.to(torch.half)(x.half())


def double(network: nn.Module, x: Any) -> Any:
    network.double()
    return lambda x: network(x.double())


def channels_last(network: nn.Module, x: Any) -> Any:
    return network.to(memory_format=torch.channels_last)


def reloaded_state(network: nn.Module, x: Any) -> Any:
    """Load the state into a network built again, as most training scripts do."""
    from .networks import Tiny, seeded

    fresh = seeded(Tiny)
    fresh.load_state_dict(network.state_dict())
    return fresh
