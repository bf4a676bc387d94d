"""Attention at a cost that is linear in the positions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print


class DoubleAttention(nn.Module):
    """A²-Net's, which adds no features."""

    def __init__(self, in_channels: int, c_m: int = 8, c_n: int = 6) -> None:
        super().__init__()
        self.c_m, self.c_n = c_m, c_n
        self.convA, self.convB, self.convV = (nn.Conv2d(in_channels, width, 1) for width in (c_m, c_n, c_n))
        self.conv_reconstruct = nn.Conv2d(c_m, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        maps = F.softmax(self.convB(x).view(b, self.c_n, -1), dim=-1)
        vectors = F.softmax(self.convV(x).view(b, self.c_n, -1), dim=1)
        descriptors = torch.bmm(self.convA(x).view(b, self.c_m, -1), maps.permute(0, 2, 1))
        y: Tensor = self.conv_reconstruct(descriptors.matmul(vectors).view(b, self.c_m, h, w))
        return y


class OnTokens(nn.Module):
    """Run a module of (N, L, C) on a map."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.module(x.flatten(2).transpose(1, 2))
        return made.transpose(1, 2).reshape(x.shape)


class AFTSimple(nn.Module):
    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.fc_q, self.fc_k, self.fc_v = (nn.Linear(d_model, d_model) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        k = torch.exp(self.fc_k(x))
        y: Tensor = torch.sigmoid(self.fc_q(x)) * (k * self.fc_v(x)).sum(1, keepdim=True) / k.sum(1, keepdim=True)
        return y


class MemoryAttention(nn.Module):
    """External attention by its memories alone."""

    def __init__(self, d_model: int, slots: int = 8) -> None:
        super().__init__()
        self.mk, self.mv = nn.Linear(d_model, slots, bias=False), nn.Linear(slots, d_model, bias=False)

    def forward(self, queries: Tensor) -> Tensor:
        attn = self.mk(queries).softmax(1)
        made: Tensor = self.mv(attn / torch.sum(attn, dim=2, keepdim=True))
        return made


class ExternalAttention(nn.Module):
    """The authors' network's."""

    def __init__(self, c: int, k: int = 16) -> None:
        super().__init__()
        self.conv1, self.linear_0 = nn.Conv2d(c, c, 1), nn.Conv1d(c, k, 1, bias=False)
        self.linear_1 = nn.Conv1d(k, c, 1, bias=False)
        self.conv2 = nn.Sequential(nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        attn = F.softmax(self.linear_0(self.conv1(x).flatten(2)), dim=-1)
        attn = attn / (1e-9 + attn.sum(dim=1, keepdim=True))
        return F.relu(self.conv2(self.linear_1(attn).view(x.shape)) + x)


class EfficientAttention(nn.Module):
    def __init__(self, in_channels: int, inner: int = 16, head_count: int = 2) -> None:
        super().__init__()
        self.head_count = head_count
        self.keys, self.queries, self.values = (nn.Conv2d(in_channels, inner, 1) for _ in range(3))
        self.reprojection = nn.Conv2d(inner, in_channels, 1)

    def forward(self, input_: Tensor) -> Tensor:
        n, _, h, w = input_.shape
        keys, queries, values = (layer(input_).flatten(2) for layer in (self.keys, self.queries, self.values))
        attended = []
        parts = (each.chunk(self.head_count, 1) for each in (keys, queries, values))
        for key, query, value in zip(*parts, strict=True):
            context = F.softmax(key, dim=2) @ value.transpose(1, 2)
            attended.append((context.transpose(1, 2) @ F.softmax(query, dim=1)).reshape(n, -1, h, w))
        y: Tensor = self.reprojection(torch.cat(attended, dim=1)) + input_
        return y


def tokens(module: Callable[..., nn.Module]) -> Callable[[int], nn.Module]:
    return lambda channels: OnTokens(module(channels))


PRINTS = [
    Print(
        "DoubleAttention",
        "a2",
        {"features": 8, "descriptors": 6, "residual": False},
        DoubleAttention,
        {"feature": "convA", "gather": "convB", "distribute": "convV", "project": "conv_reconstruct"},
    ),
    Print(
        "AFT, simple",
        "aft",
        {"project": False, "residual": False},
        tokens(AFTSimple),
        {"query": "module.fc_q", "key": "module.fc_k", "value": "module.fc_v"},
    ),
    Print(
        "ExternalAttention of memories",
        "external",
        {"size": 8, "project": False, "residual": False},
        tokens(MemoryAttention),
        {"key_memory": "module.mk", "value_memory": "module.mv"},
    ),
    Print(
        "the authors' External_attention",
        "external",
        {"size": 16, "norm": True, "activation": "relu", "eps": 1e-9},
        ExternalAttention,
        {"query": "conv1", "key_memory": "linear_0", "value_memory": "linear_1", "project": "conv2.0", "bn": "conv2.1"},
    ),
    Print(
        "the authors' EfficientAttention",
        "efficient",
        {"heads": 2},
        EfficientAttention,
        {"query": "queries", "key": "keys", "value": "values", "project": "reprojection"},
    ),
]
