"""Stages: what trains for how many epochs, one after the other, and going on in any of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from attn_surgeon.errors import SettingsError
from attn_surgeon.finetune import loop
from attn_surgeon.finetune.context import StageContext
from attn_surgeon.finetune.loop import Trained, train
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.finetune.stages import Stage, parse_stages
from attn_surgeon.surgery.installed_grafts import list_grafts

from .helpers import EXAMPLE, operated, parts, same

SETTINGS = FinetuneSettings(stages="grafts:1,all:2", batch_size=8, limit=24, lr=3e-3, checkpoint_steps=1, mixup=0.2)


class Ended(BaseException):
    """Stand for whatever ends a process at once."""


def test_stages_are_read_in_order() -> None:
    found = parse_stages("grafts:2, until:layer3:1,all:8")
    assert found == (Stage("base", 0, 2), Stage("until:layer3", 2, 3), Stage("none", 3, 11))
    assert FinetuneSettings(epochs=3).plan == (Stage("none", 0, 3),)


@pytest.mark.parametrize(
    "text", ["grafts", "grafts:0", "graft:2", "until::2", "", "all:2,", "all:100001", "all:1," * 200]
)
def test_what_is_no_plan_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="stages cannot be parsed"):
        FinetuneSettings(stages=text)


def test_the_first_stage_leaves_the_base_alone_and_the_second_does_not(tmp_path: Path) -> None:
    model = operated()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    grafts = tuple(f"{made.path}." for made in list_grafts(model))
    train(model, parts(SETTINGS), FinetuneSettings(**{**SETTINGS.to_dict(), "stages": "grafts:2"}), tmp_path, EXAMPLE)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {name for name in changed if not name.startswith(grafts)} == {"fc.weight", "fc.bias"}
    train(
        model, parts(SETTINGS), FinetuneSettings(**{**SETTINGS.to_dict(), "stages": "all:1"}), _new(tmp_path), EXAMPLE
    )
    assert not torch.equal(model.state_dict()["conv1.weight"], before["conv1.weight"])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(operated(), parts(SETTINGS), SETTINGS, tmp_path_factory.mktemp("whole"), EXAMPLE)


# in the middle of the first stage (slow), where it ends, and in the second
@pytest.mark.parametrize(
    "steps", [pytest.param(2, marks=pytest.mark.slow), 3, pytest.param(4, marks=pytest.mark.slow), 7]
)
def test_a_resumed_run_is_bit_identical_in_any_stage(
    whole: Trained, tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = loop._after_step
    folder = tmp_path / "run"
    folder.mkdir()

    def end(context: StageContext) -> None:
        after(context)
        if context.run.state.step == steps:
            raise Ended

    with monkeypatch.context() as patch, pytest.raises(Ended):
        patch.setattr(loop, "_after_step", end)
        train(operated(), parts(SETTINGS), SETTINGS, folder, EXAMPLE)
    torch.manual_seed(99)
    assert same(train(operated(), parts(SETTINGS), SETTINGS, folder, EXAMPLE).model, whole.model)


def _new(folder: Path) -> Path:
    made = folder / "new"
    made.mkdir()
    return made
