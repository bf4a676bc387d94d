"""Remove some grafts, then all; without grafts the network is the original again, class, keys and output."""

import torch

import attn_surgeon
from attn_surgeon.networks.demo import load_demo

network = load_demo()
x = torch.randn(1, 1, 32, 32)
model = attn_surgeon.insert(network, block="se", after=["layer2", "layer3"], example=x)

fewer = attn_surgeon.remove(model, "layer3")
print("left:", [name for name in fewer.state_dict() if "attn_surgeon" in name])

original = attn_surgeon.remove(model)
print("the same keys:", list(original.state_dict()) == list(network.state_dict()))
print("the same classes:", [type(m) for m in original.modules()] == [type(m) for m in network.modules()])
