"""Read the options of fine-tuning from a YAML file: the settings, the artefact and the data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attn_surgeon.errors import SettingsError
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.settings import read_settings, setting, validate
from attn_surgeon.text_files import read_yaml

_JOB = ("artefact", "data", "control", "seeds")


@dataclass(frozen=True)
class _Job:
    artefact: str | None = setting(None, "The artefact.", panel="Run")
    data: str | None = setting(None, "The data.", panel="Run")
    control: bool = setting(False, "Train the network without grafts too.", panel="Run")
    seeds: int = setting(1, "Number of training runs.", panel="Run", least=1, most=1000)

    def __post_init__(self) -> None:
        validate(self)


@dataclass(frozen=True)
class FinetuneConfig(_Job):
    """The options of fine-tuning.

    Args:
        artefact: the path of the artefact.
        data: the data, as for `open_pictures`.
        control: train the network without grafts too.
        seeds: the number of training runs, with consecutive seeds.
        settings: how the network is trained.
    """

    settings: FinetuneSettings = field(default_factory=FinetuneSettings)


def read_config(path: Path) -> tuple[FinetuneConfig, list[str]]:
    """Return the options in a YAML file, and their names.

    Args:
        path: a file with a mapping of options, such as `batch_size: 32` or `batch-size: 32`.

    Raises:
        SettingsError: if the file is not a mapping, or an option is unknown or invalid.
    """
    values = read_yaml(path, SettingsError) or {}
    if not isinstance(values, Mapping):
        raise SettingsError("expected a table of options", str(path), "such as: epochs: 10")
    named: dict[str, Any] = {str(name).replace("-", "_"): value for name, value in values.items()}
    job = read_settings(_Job, {name: value for name, value in named.items() if name in _JOB}, str(path))
    rest = {name: value for name, value in named.items() if name not in _JOB}
    settings = read_settings(FinetuneSettings, rest, str(path))
    return FinetuneConfig(**vars(job), settings=settings), list(named)
