"""Other image sizes of an example, for a second run that distinguishes spatial axes from the channel axis."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from attn_surgeon.surgery import running


def other_sizes(example: running.Example) -> list[running.Example]:
    """Return an example at other image sizes: first multiples of 32, as most networks need, of the same aspect ratio.

    Images are (N, C, H, W); videos and volumes (N, C, T, H, W) keep T. Without images, or with images of several sizes,
    there is no other size.
    """
    size = image_size(example)
    images = [tensor for tensor in running.tensors(example) if _is_image(tensor)]
    if size is None or any(tuple(image.shape[-2:]) != size for image in images):
        return []
    if any(tensor.ndim > 1 and not _is_image(tensor) for tensor in running.tensors(example)):
        return []
    height, width = size
    smaller = (max(32, height * 3 // 4 // 32 * 32), max(32, width * 3 // 4 // 32 * 32))
    same_aspect = [(height * part // 4, width * part // 4) for part in (3, 2, 8)]
    same_aspect = [
        other
        for other in same_aspect
        if other[0] % 32 == other[1] % 32 == 0 and smaller[0] * width != smaller[1] * height
    ]
    others = [other for other in dict.fromkeys([*same_aspect, smaller, (height * 2, width * 2)]) if min(other) > 0]
    return [_resized(example, other) for other in others if other[0] != height and other[1] != width]


def _resized(example: running.Example, size: tuple[int, int]) -> running.Example:
    def resize(tensor: Tensor) -> Tensor:
        if not _is_image(tensor):
            return tensor
        flat = tensor.reshape(-1, 1, *tensor.shape[-2:])
        return nn.functional.interpolate(flat, size=size, mode="nearest").reshape(*tensor.shape[:-2], *size)

    return cast(running.Example, running.map_tensors(example, resize))


def _is_image(tensor: Tensor) -> bool:
    return tensor.ndim in (4, 5) and tensor.is_floating_point()


def image_size(example: running.Example) -> tuple[int, int] | None:
    """Return the (H, W) of the first image in an example; None without any."""
    first = next((tensor for tensor in running.tensors(example) if _is_image(tensor)), None)
    return None if first is None else (int(first.shape[-2]), int(first.shape[-1]))
