"""Insert a block of your own: any module that gives the shape it is given, however it starts."""

import torch
from torch import Tensor, nn

import attn_surgeon
from attn_surgeon.networks.demo import load_demo


class Contrast(nn.Module):
    """Weigh channels by how much they vary over the map."""

    def __init__(self, channels: int, power: float = 1.0) -> None:
        super().__init__()
        self.mix = nn.Linear(channels, channels)
        self.power = power

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features (N, C, H, W) of the same shape."""
        weight = torch.sigmoid(self.mix(x.std((2, 3), correction=0) ** self.power))
        return x * weight[:, :, None, None]


if __name__ == "__main__":  # `--block examples/own_block.py:Contrast` imports this file
    network, x = load_demo(), torch.randn(1, 1, 32, 32)
    attn_surgeon.register_block("contrast", Contrast)
    model = attn_surgeon.insert(network, "se+contrast", example=x, after="layer3", options={"contrast.power": 0.5})
    with torch.no_grad():
        print("the same output:", torch.equal(model(x), network(x)))
