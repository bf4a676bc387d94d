"""Write the results of each epoch: metrics as JSON lines and for TensorBoard, and artefacts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from attn_surgeon.artefact.save import save
from attn_surgeon.finetune.checkpoint import write_file
from attn_surgeon.finetune.settings import BEST
from attn_surgeon.optional_dependencies import is_installed

METRICS = "metrics.jsonl"
BOARD = "tensorboard"


def write_epoch(folder: Path, model: nn.Module, history: Sequence[Mapping[str, Any]], *, better: bool) -> None:
    """Write the metrics and last.safetensors; if the network is the best so far, best.safetensors too."""
    save(model, folder / "last.safetensors")
    if better:
        save(model, folder / BEST)
    lines = "".join(f"{json.dumps(line)}\n" for line in history)
    write_file(folder / METRICS, lambda path: Path(path).write_text(lines))
    if is_installed("tensorboard"):
        _write_board(folder / BOARD, history)


def _write_board(folder: Path, history: Sequence[Mapping[str, Any]]) -> None:
    """Add the last epoch for TensorBoard; an epoch repeated by a resumed run replaces the earlier one."""
    from torch.utils.tensorboard import SummaryWriter

    line = history[-1]
    with SummaryWriter(str(folder), purge_step=line["epoch"]) as writer:
        for name, value in line.items():
            if isinstance(value, float):
                writer.add_scalar(name, value, line["epoch"])
