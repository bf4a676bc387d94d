"""Clipping: gradients of grafts do not change how the base and the head are trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from attn_surgeon.finetune.clipping import clip_gradients
from attn_surgeon.finetune.control_run import network_of
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.parameter_groups import graft_names, make_optimizer
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.surgery.installed_grafts import list_grafts

from .helpers import EXAMPLE, loaded, operated, parts

SETTINGS = FinetuneSettings(
    epochs=1, batch_size=16, limit=16, optimizer="sgd", weight_decay=0.0, warmup=0.0, clip_grad=0.01
)


@pytest.mark.parametrize("size", [0.0, 1e3])
def test_each_part_has_a_separate_norm(size: float) -> None:
    model = operated()
    grafts = graft_names(model)
    for name, parameter in model.named_parameters():
        parameter.grad = torch.full_like(parameter, size if name in grafts else 1.0)
    counts = [
        sum(p.numel() for name, p in model.named_parameters() if (name in grafts) is part) for part in (False, True)
    ]
    norms = [counts[0] ** 0.5, size * counts[1] ** 0.5]
    found = clip_gradients(make_optimizer(model, FinetuneSettings()), 0.5)
    assert float(found) == pytest.approx(sum(norms), rel=1e-5)
    for name, parameter in model.named_parameters():
        part = name in grafts
        expected = (size if part else 1.0) * min(1.0, 0.5 / max(norms[part], 1e-9))
        assert parameter.grad is not None
        assert torch.allclose(parameter.grad, torch.tensor(expected), rtol=1e-4)


def test_a_norm_that_is_not_finite_is_returned() -> None:
    model = operated()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    next(list_grafts(model)[0].block.parameters()).grad.fill_(torch.nan)  # type: ignore[union-attr]
    assert clip_gradients(make_optimizer(model, FinetuneSettings()), 1.0).isnan()


def test_the_first_step_of_the_base_is_that_of_the_control(tmp_path: Path) -> None:
    start, models = loaded(), []
    for grafts in (True, False):
        model = network_of(start, grafts=grafts)
        (tmp_path / str(grafts)).mkdir()
        train(model, parts(SETTINGS), replace(SETTINGS, lr=0.1), tmp_path / str(grafts), EXAMPLE)
        models.append(dict(model.named_parameters()))
    for name, trained in models[1].items():
        assert torch.allclose(models[0][name], trained, rtol=0, atol=1e-7), name
