"""Forwards whose nodes are easily mixed up."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .basics import WIDTH, Residual, conv


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


class Tied(nn.Module):
    """Hold one module under two names and call it by both."""

    def __init__(self) -> None:
        super().__init__()
        self.first = Residual()
        self.second = self.first

    def forward(self, x: Tensor) -> Tensor:
        return self.second(torch.tanh(self.first(x)))  # type: ignore[no-any-return]


class Chunks(nn.Module):
    """Cut a map in two by a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b = conv(), conv(2), conv(2)

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.conv(x).chunk(2, 1)
        if self.training:
            right = right + 1
        return torch.cat((self.a(left), self.b(right)), 1)
