"""Settings from files: the same checks as in Python, and types that YAML gets wrong."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from attn_surgeon.errors import SettingsError, for_command_line
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.settings import read_settings


def read(**values: Any) -> FinetuneSettings:
    return read_settings(FinetuneSettings, values, "a.yaml")


def test_values_are_read_by_name_and_the_rest_is_default() -> None:
    found = read_settings(FinetuneSettings, {"batch-size": 8, "lr": "1e-3", "dice": 1, "amp": False}, "a.yaml")
    assert found == FinetuneSettings(batch_size=8, lr=1e-3, dice=1.0, amp="no")
    assert isinstance(found.dice, float)
    assert read(limit=None, val_data="x").limit is None
    assert read(**FinetuneSettings(epochs=3, freeze="bn").to_dict()) == FinetuneSettings(epochs=3, freeze="bn")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epoch": 1}, r"epoch is unknown, did you mean epochs\?; a.yaml"),
        ({"epochs": 1.0}, "epochs must be a whole number, got 1.0; a.yaml"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"lr": "fast"}, "lr must be a number, got 'fast'"),
        ({"lr": True}, "lr must be a number, got True"),
        ({"compile": 1}, "compile must be true or false, got 1"),
        ({"task": 1}, "task must be a string, got 1"),
        ({"epochs": None}, "epochs must be a whole number, got None"),
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": 10**6}, "epochs must be at most 100000, got 1000000"),
        ({"batch_size": 10**9}, "batch_size must be at most 1000000"),
        ({"accumulate": 10**9}, "accumulate must be at most 1000000"),
        ({"lr": float("nan")}, "lr must be finite"),
        ({"warmup": 1.0}, "warmup must be at least 0 and below 1, got 1"),
        ({"schedule": "cosin"}, "schedule must be one of .*got 'cosin'.*did you mean cosine"),
        ({"task": "segmentatio"}, "task must be one of .*did you mean segmentation"),
        ({"stages": "all:1", "freeze": "bn"}, "stages already says what is frozen; freeze; leave freeze out"),
        ({"mixup": 0.2, "batch_size": 1}, "mixing needs two images in a batch; batch_size"),
    ],
)
def test_wrong_values_are_named(values: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        read_settings(FinetuneSettings, values, "a.yaml")


def test_each_field_has_a_meaning_and_a_panel() -> None:
    for item in fields(FinetuneSettings):
        assert item.metadata["meaning"].endswith("."), item.name
        assert item.metadata["panel"], item.name
        assert "\x00" not in for_command_line(item.metadata["meaning"])
