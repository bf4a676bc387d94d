"""Fine-tunes of the CIFAR-10 ResNet-20 as lines of a file: a trial that is there is not run again."""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from scipy.stats import ttest_1samp
from torch.utils.data import Subset

from attn_surgeon import insert
from attn_surgeon.data.splits import Splits, open_labelled_splits
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.tasks.accuracy import measure_accuracy

from .cifar import resnet20, unpacked


@dataclass(frozen=True)
class Trial:
    """Say what is trained how; no block means the network without grafts."""

    block: str | None
    at: str
    settings: FinetuneSettings

    def key(self) -> str:
        """Give a text that tells trials apart."""
        return json.dumps([self.block, self.at if self.block else "", self.settings.to_dict()], sort_keys=True)

    def control(self) -> Trial:
        """Give the same without grafts, whose own rate then plays no part."""
        return Trial(None, "", replace(self.settings, graft_lr_mult=1.0))

    def seeded(self, seed: int) -> Trial:
        """Give the same with another seed."""
        return replace(self, settings=replace(self.settings, seed=seed))


@dataclass
class Bench:
    """Run trials on one core, and keep what came of them in a file."""

    file: Path
    val_split: float | None
    results: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Read what is known already."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        self.results = {line["key"]: line["top1"] for line in map(json.loads, lines)}

    @cached_property
    def loaded(self) -> Any:
        """Open the network."""
        return resnet20()

    def parts(self, settings: FinetuneSettings) -> Splits:
        """Open the images; a seed changes neither those trained on nor those measured on."""
        chosen = replace(settings, seed=0, val_split=self.val_split)
        key = (chosen.limit, chosen.augment)
        if key not in self._opened:
            self._opened[key] = open_labelled_splits(str(unpacked("cifar10-jpeg")), self.loaded.preprocessing, chosen)
        return self._opened[key]

    @cached_property
    def _opened(self) -> dict[Any, Splits]:
        return {}

    def top1(self, trial: Trial) -> float:
        """Give a trial's accuracy in per cent."""
        if trial.key() not in self.results:
            since = time.perf_counter()
            self.results[trial.key()] = value = self._run(trial)
            line = {"key": trial.key(), "top1": value, "seconds": time.perf_counter() - since}
            with self.file.open("a") as file:
                file.write(json.dumps(line) + "\n")
        return self.results[trial.key()]

    def _run(self, trial: Trial) -> float:
        loaded = self.loaded
        model = loaded.base()
        if trial.block is not None:
            model = insert(model, trial.block, at=trial.at, example=loaded.example, seed=trial.settings.seed)
        parts = self.parts(trial.settings)
        # what an epoch is worth matters only at the end
        some = range(min(64, len(parts.val.dataset)))  # type: ignore[arg-type]
        few = replace(parts, val=replace(parts.val, dataset=Subset(parts.val.dataset, some)))
        with tempfile.TemporaryDirectory() as folder:
            done = train(model, few, trial.settings, Path(folder), loaded.example)
        return 100.0 * measure_accuracy(done.model, parts.val).top1

    def differences(self, trial: Trial, control: Trial, seeds: Iterable[int]) -> list[float]:
        """Give how much a trial is better than its control, seed by seed."""
        return [self.top1(trial.seeded(seed)) - self.top1(control.seeded(seed)) for seed in seeds]


def mean_and_deviation(values: Sequence[float]) -> str:
    """Write mean ± standard deviation."""
    deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def mean_and_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the mean of at least two values and the ends of Student's 95 % t-interval."""
    interval = ttest_1samp(values, 0).confidence_interval()
    return statistics.mean(values), float(interval.low), float(interval.high)


def one_core() -> None:
    """Keep to one thread, so that two benchmarks can run side by side."""
    torch.set_num_threads(1)


def described(settings: FinetuneSettings) -> Mapping[str, Any]:
    """Give the settings that are not the defaults."""
    usual = asdict(FinetuneSettings())
    return {name: value for name, value in asdict(settings).items() if value != usual[name] and name != "seed"}
