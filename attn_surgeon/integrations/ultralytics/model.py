"""ultralytics' models with a method that inserts blocks, and with trainers that keep them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, Self

import ultralytics
from torch import nn
from ultralytics.engine.model import Model
from ultralytics.nn.tasks import BaseModel
from ultralytics.utils import DEFAULT_CFG_DICT, YAML

from attn_surgeon.errors import LostGraftError, SourceError
from attn_surgeon.integrations.ultralytics.rebuilding import (
    example_of,
    plain_yaml,
    require_outlasting,
)
from attn_surgeon.integrations.ultralytics.trainer import with_grafts
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied


class GraftedModel(Model):  # type: ignore[misc]
    """A model with `insert`, whose training keeps grafts; combined with a class of ultralytics that comes after it."""

    def __init__(self, model: Any = "yolo11n.pt", *args: Any, **kwargs: Any) -> None:
        is_network = isinstance(model, nn.Module) and not isinstance(model, Model)
        if is_network and not isinstance(model, BaseModel):
            what = f"{type(model).__name__} is no network of ultralytics"
            raise SourceError(what, "model", "pass a YAML, a checkpoint, or the model of a YOLO")
        if is_network:
            _build_like(super().__init__, model, *args, **kwargs)
        else:
            super().__init__(model, *args, **kwargs)
        if GraftedModel not in type(self).__mro__:  # ultralytics has changed the class, such as to YOLOWorld
            self.__class__ = type(type(self).__name__, (GraftedModel, type(self)), {"__module__": __name__})
        if is_network:
            self._adopt(model)

    def _adopt(self, network: Any) -> None:
        """Take a network in place of the one that was built; training begins with its weights."""
        known = getattr(network, "args", {})
        known = self._reset_ckpt_args(known if isinstance(known, dict) else vars(known))
        self.overrides |= {**known, "model": network.yaml.get("yaml_file", ""), "task": self.task}
        network.task, network.args = self.task, {**DEFAULT_CFG_DICT, **self.overrides}
        self.model, self.ckpt = network, {"model": network}  # train() takes the weights of `model` where `ckpt` is set

    def insert(self, block: str, *, imgsz: int = 256, **choices: Any) -> Self:
        """Insert an attention block at the chosen sites, in place, and return the model.

        The block starts as exactly the identity, so the model predicts what it did until it is trained.

        Args:
            block: the name of a block such as `"cbam"`, or whatever else `attn_surgeon.insert` takes.
            imgsz: the side in pixels of the image on which the network is run to find its sites.
            choices: the sites and options as for `attn_surgeon.insert`: `at="residual"`, `after="model.16"`,
                `options={"reduction": 8}`. `model.16` is layer 16 of the YAML.

        Raises:
            LostGraftError: val, predict and export would lose a graft, because they remove the head's branch it is in.
            SurgeonError: as for `attn_surgeon.insert`.

        Example:
            >>> import attn_surgeon
            >>> yolo = YOLO("yolo11n.yaml").insert("cbam", after=["model.16", "model.19", "model.22"])
            >>> len(attn_surgeon.list_grafts(yolo.model))
            3
        """
        self._check_is_pytorch_model()
        network: Any = insert(self.model, block, example=example_of(self.model, imgsz), **choices)
        require_outlasting(network)
        if self.ckpt.get("model") is self.model:
            self.ckpt["model"] = network
        self.model, self.predictor = network, None
        return self

    def train(self, trainer: type[Any] | None = None, **kwargs: Any) -> Any:
        """Train as ultralytics does, with the grafts; a trainer of your own is given them too.

        Raises:
            LostGraftError: a checkpoint has lost a graft.
            TrainingError: training has changed no graft.
        """
        return super().train(with_grafts(trainer or self._smart_load("trainer"), self.model), **kwargs)

    def val(self, *args: Any, **kwargs: Any) -> Any:
        """Validate as ultralytics does, but without fusing the network, so that it can be trained afterwards."""
        network = self.model
        if isinstance(network, nn.Module):
            self.model = copied(network)
        try:
            return super().val(*args, **kwargs)
        finally:
            self.model = network

    def tune(self, use_ray: bool = False, *args: Any, **kwargs: Any) -> Any:
        """Tune as ultralytics does where it trains in this process; refuse where it calls its command line."""
        if not use_ray and isinstance(self.model, nn.Module) and list_grafts(self.model):
            raise LostGraftError(
                "tune trains by ultralytics' command line, which builds networks without grafts",
                "tune",
                "use use_ray=True, or call train with the settings to try",
            )
        return super().tune(use_ray, *args, **kwargs)


def _build_like(build: Any, network: Any, *args: Any, **kwargs: Any) -> None:
    """Call a constructor with a network's YAML, in a file of the same name, from which ultralytics reads the scale."""
    yaml = plain_yaml(network.yaml)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / Path(yaml.get("yaml_file") or "network.yaml").name
        YAML.save(path, yaml)
        build(str(path), *args, **kwargs)


class YOLO(GraftedModel, ultralytics.YOLO):  # type: ignore[misc]
    """`ultralytics.YOLO` that keeps grafts when it is trained.

    Args:
        model: what `ultralytics.YOLO` takes: a YAML, weights, a trained `best.pt` with grafts; or a network, such as
            one that `attn_surgeon.load` returned, whose weights training begins with.
        task: `detect`, `segment`, `classify`, `pose` or `obb`, where the YAML does not say.
        verbose: whether to print the layers.
    """


class RTDETR(GraftedModel, ultralytics.RTDETR):  # type: ignore[misc]
    """`ultralytics.RTDETR` that keeps grafts when it is trained; its arguments are those of `YOLO`."""
