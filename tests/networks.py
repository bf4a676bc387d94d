"""Small networks, each showing one trap of surgery on a forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 4


def conv(width: int = WIDTH) -> nn.Conv2d:
    return nn.Conv2d(width, width, 3, padding=1)


class Root(nn.Module):
    """Call one stage and then a classifier."""

    def __init__(self, stage: nn.Module) -> None:
        super().__init__()
        self.stage, self.fc = stage, nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stage(x).mean((2, 3)))  # type: ignore[no-any-return]


class NamedAttn(nn.Module):
    """Have children of the names that grafts could be given."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.se, self.after, self.after_attn = conv(), conv(), conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.after_attn(self.after(self.se(self.attn(x))))  # type: ignore[no-any-return]


class Reserved(nn.Module):
    """Have a child under the very name that grafts are kept under."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.attn_surgeon = conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.attn_surgeon(self.conv(x))  # type: ignore[no-any-return]


class Masked(nn.Module):
    """Branch on arguments that are not tensors in the example."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor, mask: Tensor | None = None, times: int = 1) -> Tensor:
        y: Tensor = self.conv(x)
        y = F.relu(y) if mask is None else y * mask
        for _ in range(times):
            y = y + x
        return y


class CallsMasked(nn.Module):
    """Call a branching stage with a constant keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Masked()

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x, times=2)  # type: ignore[no-any-return]


class FunctionalDropout(nn.Module):
    """Hand the mode on to a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.5, self.training) + x


class StochasticDepth(nn.Module):
    """Scale the branch by a random mask, in train mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = conv(), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        if self.training:
            y = y * torch.empty(y.shape[0], 1, 1, 1).bernoulli_(0.5)
        return y + x


class CoinFlip(nn.Module):
    """Skip the branch by a number drawn in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.rand(1).item() < 0.5:
            return x + 0
        return x + self.conv(x)  # type: ignore[no-any-return]


class NoiseInTrain(nn.Module):
    """Add twice in train mode, so that `add` is another place there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        if self.training:
            y = y + torch.ones_like(y)
        return y + x


class CountsCalls(nn.Module):
    """Change an own buffer in place."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps.add_(1)
        return self.conv(x) + x  # type: ignore[no-any-return]


class UsedTwice(nn.Module):
    """Use one value in two places."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return torch.cat((y, torch.sigmoid(y) * y), 1)


class InPlace(nn.Module):
    """Change activations in place right before and after the usual sites."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = conv(), nn.BatchNorm2d(WIDTH), nn.ReLU(inplace=True)
        self.conv2, self.bn2 = conv(), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn(self.conv(x)))
        out = self.bn2(self.conv2(out))
        out += x
        return self.relu(out)  # type: ignore[no-any-return]


class Aliased(nn.Module):
    """Change a value in place under a second name, and count with `+=` on a number."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        other = y
        other += x
        batch = count = x.shape[0]
        count += 1
        return y.reshape(batch, -1) * count


class SharedRelu(nn.Module):
    """Call one leaf three times, and one composite three times."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c, self.relu = conv(), conv(), conv(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.c(self.relu(self.b(self.relu(self.a(x))))))  # type: ignore[no-any-return]


class SharedHead(nn.Module):
    """Run one head on three maps, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = conv(), Residual()

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        return [self.head(F.avg_pool2d(x, size)) for size in (1, 2, 4)]


class Residual(nn.Module):
    """Be a plain residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)  # type: ignore[no-any-return]


class CollidingNames(nn.Module):
    """Have a child `relu_1` beside a `relu` that is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.relu, self.relu_1 = conv(), nn.ReLU(), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu_1(self.a(self.relu(self.a(self.relu(x) - 1)))) * 2  # type: ignore[no-any-return]


class FunctionLikeChild(nn.Module):
    """Call a function that has the name of a child."""

    def __init__(self) -> None:
        super().__init__()
        self.relu = nn.LeakyReLU(0.3)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(-F.relu(x))  # type: ignore[no-any-return]


class Twins(nn.Module):
    """Give two maps as a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x), self.b(x)


class Unpacks(nn.Module):
    """Unpack a stage's two outputs and give a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.out = Twins(), conv()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first, second = self.backbone(x)
        return {"out": self.out(first + second), "aux": second}


class Stages(nn.Module):
    """Run a Sequential in one of the ways its parents do."""

    def __init__(self, how: Callable[[nn.Sequential, Tensor], Tensor]) -> None:
        super().__init__()
        self.stage, self.how = nn.Sequential(Residual(), nn.ReLU(), Residual()), how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.stage, x)


def call(stage: nn.Sequential, x: Tensor) -> Tensor:
    return stage(x)  # type: ignore[no-any-return]


def iterate(stage: nn.Sequential, x: Tensor) -> Tensor:
    for module in stage:
        x = module(x)
    return x


def slices(stage: nn.Sequential, x: Tensor) -> Tensor:
    return stage[2:](stage[:2](x))  # type: ignore[no-any-return]


def index(stage: nn.Sequential, x: Tensor) -> Tensor:
    for position in range(len(stage)):
        x = stage[position](x)
    return x


class Dense(nn.ModuleDict):
    """Run the items of a dict on everything so far, as DenseNet's blocks do."""

    def __init__(self) -> None:
        super().__init__({f"layer{n}": nn.Conv2d(WIDTH * n, WIDTH, 1) for n in (1, 2)})

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for name, layer in self.items():
            assert name.startswith("layer")
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


class OverChildren(nn.Module):
    """Run whatever children it has."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x


class IntOnShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        size = int(x.shape[-1]) // 2
        return F.adaptive_avg_pool2d(self.conv(x), size)


class BranchOnValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y if y.sum() > 0 else y - 1


class TakesList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.conv(maps[0]) + maps[1]  # type: ignore[no-any-return]


class GivesList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage = TakesList()

    def forward(self, x: Tensor) -> Tensor:
        return self.stage([x, x * 2])  # type: ignore[no-any-return]


class Helpers(nn.Module):
    """Split the forward into methods that are also called on their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.norm, self.fc = conv(), conv(), nn.BatchNorm2d(WIDTH), nn.Linear(WIDTH, 3)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.body(F.relu(self.stem(x)))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x.mean((2, 3))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.forward_features(x))
        return self.forward_head(x)


class Positions(nn.Module):
    """Make a constant tensor in the forward, of a size that the input does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.length = conv(), WIDTH

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + torch.arange(self.length).view(1, -1, 1, 1)  # type: ignore[no-any-return]


class Tied(nn.Module):
    """Hold one module under two names and call it by both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Residual()
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))  # type: ignore[no-any-return]


class Tokens(nn.Module):
    """Turn an image into class tokens and patches, as vision transformers do."""

    def __init__(self, prefix: int, patch: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, patch, patch)
        self.prefix = nn.Parameter(torch.randn(1, prefix, 8))
        self.block = TokenBlock()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.prefix.expand(x.shape[0], -1, -1), x), 1)
        return self.block(x)  # type: ignore[no-any-return]


class TokenBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(self.norm(x))  # type: ignore[no-any-return]


class ChannelsLast(nn.Module):
    """Keep channels in the last axis, as Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block = nn.Conv2d(3, 8, 4, 4), TokenBlock()

    def forward(self, x: Tensor) -> Any:
        return self.block(self.embed(x).permute(0, 2, 3, 1)).mean((1, 2))


class OneSize(nn.Module):
    """Take one input size only."""

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor) -> Any:
        if x.shape[-1] != self.size:
            raise ValueError("this network takes one size")
        return self.inner(x)
