"""Insert a block into any nn.Module; the output stays the same, bit for bit."""

import torch

import attn_surgeon
from attn_surgeon.networks.demo import load_demo

network = load_demo()
x = torch.randn(1, 1, 32, 32)

model = attn_surgeon.insert(network, block="cbam", after="layer3", example=x)

with torch.no_grad():
    print("the same output:", torch.equal(model(x), network(x)))
print("new parameters:", [name for name, _ in model.named_parameters() if "attn_surgeon" in name])
