"""Run folders, their checkpoints, and option files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import yaml
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import nn

from attn_surgeon.finetune.checkpoint import CHECKPOINT, RunState, generator_states, read_checkpoint
from attn_surgeon.finetune.config import read_config
from attn_surgeon.finetune.loop import update
from attn_surgeon.finetune.parameter_groups import make_optimizer
from attn_surgeon.finetune.run_folders import REQUEST, FinetuneRequest, read_request
from attn_surgeon.finetune.settings import FinetuneSettings
from tests.fuzz.draws import changed, damaged, json_bytes, places, values
from tests.fuzz.kinds import FuzzKind
from tests.fuzz.read_weights import odd_tensors, saved


def _requests() -> SearchStrategy[Any]:
    request = asdict(FinetuneRequest("a.safetensors", "demo", "0" * 64, FinetuneSettings(), True, 2))
    request = json.loads(json.dumps(request))
    content = json_bytes(request)
    return changed(request).map(json_bytes) | damaged(content) | st.binary(max_size=50)


def _read_request(content: bytes) -> None:
    Path(REQUEST).write_bytes(content)
    read_request(Path())


def _configs() -> SearchStrategy[Any]:
    options = {"artefact": "a.safetensors", "data": "demo", **FinetuneSettings().to_dict()}
    text = yaml.safe_dump(options).encode()
    whole = changed(options).map(lambda data: yaml.dump(data, allow_unicode=True).encode("utf-8", "surrogatepass"))
    return whole | damaged(text) | st.binary(max_size=50)


def _read_config(content: bytes) -> None:
    Path("c.yaml").write_bytes(content)
    read_config(Path("c.yaml"))


def _network() -> tuple[nn.Module, torch.optim.Optimizer]:
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    return network, make_optimizer(network, FinetuneSettings())


def _step(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    network(torch.randn(5, 3)).sum().backward()
    optimizer.step()


@st.composite
def _checkpoints(draw: DrawFn) -> bytes:
    network, optimizer = _network()
    _step(network, optimizer)
    line: dict[str, int | float | None] = {
        "epoch": 1,
        "step": 3,
        "train_loss": 0.5,
        "val_loss": 0.4,
        "val_accuracy": 0.9,
    }
    state = RunState(1, 2, 5, 0.5, 9, 0.9, [line])
    content: Any = {"position": asdict(state), "random": [generator_states()]}
    content |= {"model": network.state_dict(), "optimizer": optimizer.state_dict()}
    for _ in range(draw(st.integers(1, 3))):
        paths = [path for path in places(content) if path]
        *path, last = draw(st.sampled_from(paths))
        inside = content
        for key in path:
            inside = inside[key]
        inside[last] = draw(values | odd_tensors())
        if not isinstance(content, dict):
            break
    return draw(st.just(saved(content)) | damaged(saved(content)))


def _read_checkpoint(content: bytes) -> None:
    Path(CHECKPOINT).write_bytes(content)
    network, optimizer = _network()
    read_checkpoint(Path(), {"model": network, "optimizer": optimizer})
    network(torch.randn(5, 3)).sum().backward()
    update(optimizer)


KINDS = {
    "requests": FuzzKind(_requests, _read_request),
    "option files": FuzzKind(_configs, _read_config, often=100),
    "checkpoints": FuzzKind(_checkpoints, _read_checkpoint, often=30),
}
