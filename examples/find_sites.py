"""List the places of a network where a block can go: names, shapes, layouts."""

import torch

import attn_surgeon
from attn_surgeon.networks.demo import load_demo

for site in attn_surgeon.find_sites(load_demo(), torch.randn(1, 1, 32, 32)):
    if site.output is not None:
        print(f"{site.name:16} {site.type:14} {site.output.layout} {site.output.shape}")
