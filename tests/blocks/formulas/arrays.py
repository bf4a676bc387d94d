"""Layers in float64 NumPy, with loops where those are plainer."""

from __future__ import annotations

import numpy as np

from .case import Array, Weights


def sigmoid(z: Array) -> Array:
    made: Array = np.exp(-np.logaddexp(0, -z))  # which overflows for no z
    return made


def relu(z: Array) -> Array:
    return np.maximum(z, 0)


def silu(z: Array) -> Array:
    return z * sigmoid(z)


def hard_sigmoid(z: Array) -> Array:
    return np.clip(z + 3, 0, 6) / 6


def softmax(z: Array, axis: int | tuple[int, ...] = -1) -> Array:
    powers = np.exp(z - z.max(axis, keepdims=True))
    shares: Array = powers / powers.sum(axis, keepdims=True)
    return shares


def dense(x: Array, w: Weights, name: str) -> Array:
    """Apply a linear layer, or a 1×1 convolution, to the last axis."""
    matrix = w[f"{name}.weight"]
    made: Array = x @ matrix.reshape(len(matrix), -1).T + w.get(f"{name}.bias", np.zeros(1))
    return made


def pointwise(x: Array, w: Weights, name: str) -> Array:
    """Apply a 1×1 convolution to (N, C, H, W)."""
    return np.moveaxis(dense(np.moveaxis(x, 1, -1), w, name), -1, 1)


def conv(x: Array, w: Weights, name: str, *, groups: int = 1, dilation: int = 1) -> Array:
    """Convolve (N, C, H, W) at stride 1, padded with zeros to the same size."""
    kernel = w[f"{name}.weight"]
    high, wide = kernel.shape[2:]
    over, beside = high // 2 * dilation, wide // 2 * dilation
    padded = np.pad(x, ((0, 0), (0, 0), (over, over), (beside, beside)))
    parts = np.split(padded, groups, 1)
    made = [_correlated(*each, x.shape[2:], dilation) for each in zip(parts, np.split(kernel, groups), strict=True)]
    return np.concatenate(made, 1) + w.get(f"{name}.bias", np.zeros(1)).reshape(1, -1, 1, 1)


def _correlated(padded: Array, kernel: Array, size: tuple[int, ...], dilation: int) -> Array:
    total = np.zeros((len(padded), len(kernel), *size))
    for row, column in np.ndindex(*kernel.shape[2:]):
        window = padded[:, :, row * dilation :, column * dilation :][:, :, : size[0], : size[1]]
        total += np.einsum("oc,nchw->nohw", kernel[:, :, row, column], window)
    return total


def batch_norm(z: Array, w: Weights, name: str) -> Array:
    """Normalise (N, C, ...) by the running statistics."""
    mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
    along = (-1,) + (1,) * (z.ndim - 2)
    normal = (z - mean.reshape(along)) / np.sqrt(var.reshape(along) + 1e-5)
    scaled: Array = normal * w[f"{name}.weight"].reshape(along) + w[f"{name}.bias"].reshape(along)
    return scaled


def group_norm(z: Array, w: Weights, name: str, groups: int = 1) -> Array:
    """Normalise (N, C, ...) over each group of channels and all positions."""
    parts = z.reshape(len(z), groups, -1)
    parts = (parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + 1e-5)
    along = (-1,) + (1,) * (z.ndim - 2)
    scaled: Array = parts.reshape(z.shape) * w[f"{name}.weight"].reshape(along) + w[f"{name}.bias"].reshape(along)
    return scaled


def layer_norm(z: Array, w: Weights, name: str) -> Array:
    """Normalise (N, C, H, W) over channels, at each position on its own."""
    normal = (z - z.mean(1, keepdims=True)) / np.sqrt(z.var(1, keepdims=True) + 1e-5)
    scaled: Array = normal * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]
    return scaled
