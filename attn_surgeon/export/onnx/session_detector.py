"""Run an exported detector's file as the network, so that its accuracy is measured like the network's."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.errors import DataError, option
from attn_surgeon.export.module import INPUT
from attn_surgeon.export.onnx.session import OnnxSession, as_feeds
from attn_surgeon.export.prepared import PreparedNetwork
from attn_surgeon.tasks.detectors.base import Detections, Detector, detector_of, register_detector


class SessionDetector(nn.Module):
    """A module that runs a detector's file in ONNX Runtime, and returns what the network returns."""

    def __init__(self, session: OnnxSession, prepared: PreparedNetwork) -> None:
        super().__init__()
        network: Any = prepared.network.model
        self.session, self.prepared, self.adapter = session, prepared, detector_of(network)
        self.config = getattr(network, "config", None)

    def forward(self, images: Sequence[Tensor] | None = None, *, pixel_values: Tensor | None = None) -> Any:
        """Run on images (C, H, W), or on a batch (N, C, H, W); raise DataError for a size that is not the file's."""
        if pixel_values is not None:
            return SimpleNamespace(**self._outputs(pixel_values))
        return [self._outputs(image[None]) for image in images or ()]

    def _outputs(self, batch: Tensor) -> dict[str, Tensor]:
        self._require_size(batch.shape[2], batch.shape[3])
        if self.prepared.settings.preprocess:
            batch = (batch * 255).round().to(torch.uint8).permute(0, 2, 3, 1)
        outputs = self.session.run(as_feeds(INPUT, batch))
        return dict(zip(self.prepared.exported.outputs, map(torch.from_numpy, outputs), strict=True))

    def _require_size(self, *sides: int) -> None:
        dynamic = {axis.name for axis in self.prepared.axes}
        size = self.prepared.network.preprocessing.size
        if any(a != b and name not in dynamic for a, b, name in zip(sides, size, ("height", "width"), strict=True)):
            fixed, own = ("×".join(map(str, pair)) for pair in (size, sides))
            what = f"the file takes images of {fixed} pixels, one of the data has {own}"
            raise DataError(what, option("data"), f"export with {option('dynamic', 'height,width')}")


class _SessionAdapter:
    """The adapter of detectors' files: that of the network, which reads the same outputs."""

    def recognises(self, model: nn.Module) -> bool:
        return isinstance(model, SessionDetector)

    def losses(self, model: nn.Module, images: list[Tensor], targets: list[Boxes]) -> Tensor:
        raise DataError("a file computes no loss", "detection")

    def predict(self, model: Any, images: list[Tensor]) -> list[Detections]:
        adapter: Detector = model.adapter
        return adapter.predict(model, images)

    def classes(self, model: Any) -> int:
        adapter: Detector = model.adapter
        return adapter.classes(model.prepared.network.model)

    def with_classes(self, model: nn.Module, class_names: tuple[str, ...], seed: int) -> nn.Module:
        raise DataError("the head of a file cannot be replaced", "detection")


register_detector(_SessionAdapter())
