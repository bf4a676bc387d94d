"""What the other networks are made of."""

from __future__ import annotations

from torch import Tensor, nn

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


class Residual(nn.Module):
    """Be a plain residual block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)  # type: ignore[no-any-return]
