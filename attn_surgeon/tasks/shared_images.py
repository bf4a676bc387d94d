"""Run several networks on the same images, each image read once for all with the same preprocessing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import nn

from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.progress import Progress
from attn_surgeon.surgery.isolation import mode


class PreprocessedImages(Protocol):
    """A dataset whose items are preprocessed for a network."""

    preprocessing: Preprocessing

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Any: ...


@contextmanager
def evaluated(models: Sequence[nn.Module], device: str | torch.device) -> Iterator[None]:
    """Move networks to a device; until the context ends they are in eval mode, and no gradient is computed."""
    with ExitStack() as stack:
        for model in models:
            stack.enter_context(mode(model.to(device), training=False))
        stack.enter_context(torch.inference_mode())
        yield


def items_of_each(datasets: Sequence[PreprocessedImages], progress: Progress) -> Iterator[tuple[int, int, Any]]:
    """Yield the number of the dataset, the index of the image, and the item, image by image.

    Args:
        datasets: the same images, preprocessed for each network.
        progress: is called after each item with the items done and their total.
    """
    total = len(datasets[0]) * len(datasets)
    for index in range(len(datasets[0])):
        items: dict[Preprocessing, Any] = {}
        for number, dataset in enumerate(datasets):
            if dataset.preprocessing not in items:
                items[dataset.preprocessing] = dataset[index]
            yield number, index, items[dataset.preprocessing]
            progress(index * len(datasets) + number + 1, total)
