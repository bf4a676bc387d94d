"""Trainers of ultralytics that keep grafts: they build the network from its YAML, insert, and then load weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.nn.tasks import load_checkpoint
from ultralytics.utils import LOGGER, RANK
from ultralytics.utils.torch_utils import unwrap_model

from attn_surgeon.errors import LostGraftError, TrainingError, first_few
from attn_surgeon.files import staged
from attn_surgeon.integrations.ultralytics.rebuilding import (
    add_grafts,
    example_of,
    head_shapes,
    plain_yaml,
    record_source,
)
from attn_surgeon.surgery.graft_check import check
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.rewrite.grafts import RESERVED

GraftValues = Mapping[str, list[Tensor]]


class GraftTrainer(BaseTrainer):  # type: ignore[misc]
    """A trainer that keeps grafts; combined with a trainer of ultralytics that comes after it.

    Attributes:
        template: the network whose grafts are trained; without one, those of the weights that are loaded.
    """

    template: nn.Module | None = None
    last: Path
    best: Path
    _start: GraftValues

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """Build the network, insert the grafts, and load the weights, those of the grafts included."""
        network: Any = super().get_model(cfg=plain_yaml(cfg), weights=None, verbose=verbose)
        template = weights if self.resume or self.template is None else self.template
        if template is not None and list_grafts(template):
            add_grafts(network, template, seed=self.args.seed)
        shapes = head_shapes(network)
        if weights is not None:
            network.load(weights)
        if head_shapes(network) == shapes:  # else the head kept the width of the weights, unlike the YAML's
            record_source(network, self.args.imgsz, self.data["names"])
        check(network, example_of(network))
        if self.resume and self.template is not None:
            _require_resumed(self.template, network)
        return network  # type: ignore[no-any-return]

    def setup_model(self) -> Any:
        """Set up the network, and replace the layers to freeze by their modules that are not in a graft."""
        checkpoint = super().setup_model()
        self._start = _graft_values(self.model)
        self._freeze = self.args.freeze
        self.args.freeze = _modules_in(self.model, self._freeze) if self._freeze else self._freeze
        return checkpoint

    def build_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        """Build the optimizer; the layers are frozen by now, and checkpoints have `freeze` as the user wrote it."""
        self.args.freeze = self._freeze
        return super().build_optimizer(*args, **kwargs)

    def _model_train(self) -> None:
        super()._model_train()
        for name, module in self.model.named_modules():
            frozen = any(part in f"{name}." for part in self.freeze_layer_names)
            if frozen and isinstance(module, nn.BatchNorm2d):
                module.eval()

    def save_model(self) -> Any:
        """Write the checkpoints such that a kill leaves those of the epoch before, not half of one."""
        last, best = self.last, self.best
        last.parent.mkdir(parents=True, exist_ok=True)
        with staged(last) as temporary:
            self.last, self.best = temporary, temporary.with_name(best.name)
            try:
                return super().save_model()
            finally:
                self.last, self.best = last, best

    def final_eval(self) -> None:
        """Validate the best checkpoint; raise unless the checkpoints have all grafts and training has changed them."""
        super().final_eval()
        if RANK in {-1, 0}:
            _require_changed(self._start, _graft_values(self.model))
            _require_grafts([path for path in (self.best, self.last) if path.exists()], self._start)


def with_grafts(trainer: type[Any], template: nn.Module | None = None) -> type[Any]:
    """Return a trainer's class that keeps grafts, for `train(trainer=…)` or to be called itself.

    Args:
        trainer: a trainer of ultralytics, such as `DetectionTrainer`, or a subclass of one.
        template: the network whose grafts are trained; by default, those of the weights that are loaded.
    """
    bases = (trainer,) if issubclass(trainer, GraftTrainer) else (GraftTrainer, trainer)
    return type(trainer.__name__, bases, {"template": template, "__module__": __name__})


def _modules_in(network: nn.Module, layers: int | list[int | str]) -> list[str]:
    """Return the modules with parameters of their own in the layers to freeze, without those of grafts."""
    chosen = range(layers) if isinstance(layers, int) else layers
    prefixes = tuple(f"model.{layer}." for layer in chosen)
    owners = dict.fromkeys(f"{name.rpartition('.')[0]}." for name, _ in network.named_parameters())
    return [
        owner.removeprefix("model.").removesuffix(".")
        for owner in owners
        if any(prefix in owner for prefix in prefixes) and f".{RESERVED}." not in f".{owner}"
    ]


def _graft_values(network: nn.Module) -> GraftValues:
    """Return copies of the parameters of each graft."""
    return {
        item.path: [parameter.detach().to("cpu", copy=True) for parameter in item.block.parameters()]
        for item in list_grafts(unwrap_model(network))
    }


def _require_resumed(template: nn.Module, network: nn.Module) -> None:
    """Raise LostGraftError where the network whose training is resumed lacks grafts that were inserted since."""
    resumed = {item.path for item in list_grafts(network)}
    if new := [item.place for item in list_grafts(template) if item.path not in resumed]:
        what = f"the checkpoint to resume has no graft {first_few(new)}"
        raise LostGraftError(what, "resume", "train without resume: a new training begins with the weights")


def _require_changed(start: GraftValues, trained: GraftValues) -> None:
    """Raise TrainingError where no graft has changed; log those of several that have not."""
    learning = [name for name, tensors in start.items() if tensors]
    unchanged = [name for name in learning if name in trained and all(map(torch.equal, start[name], trained[name]))]
    if unchanged and len(unchanged) == len(learning):
        hint = "train longer: the warm-up begins with a learning rate of 0, see warmup_epochs"
        raise TrainingError("training has changed no graft", first_few(unchanged), hint)
    if unchanged:
        LOGGER.warning(f"attn_surgeon: training has not changed the grafts {', '.join(unchanged)}")


def _require_grafts(checkpoints: list[Path], start: GraftValues) -> None:
    """Raise LostGraftError unless every checkpoint has all grafts, and they run."""
    for path in checkpoints:
        network = load_checkpoint(path)[0]
        found = {item.path for item in check(network, example_of(network))}
        if lost := [name for name in start if name not in found]:
            raise LostGraftError(f"the checkpoint has no graft {first_few(lost)}", str(path), "train again")
        if found:
            LOGGER.info(f"attn_surgeon: all {len(found)} grafts run in {path}")
