"""Save an operated network whole, or as a patch of a few kilobytes, and load both."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

import attn_surgeon
from attn_surgeon.networks.demo import load_demo

network = load_demo()
x = torch.randn(1, 1, 32, 32)
model = attn_surgeon.insert(network, block="se", after="layer*.*.bn2", example=x)

with TemporaryDirectory() as folder:
    whole, patch = Path(folder) / "model.safetensors", Path(folder) / "patch.safetensors"
    attn_surgeon.save(model, whole)
    attn_surgeon.save(model, patch, patch=True)
    print("bytes:", whole.stat().st_size, "and", patch.stat().st_size)
    # This network was passed in Python, so loading needs it again; one from timm is built by its name.
    for path in (whole, patch):
        loaded = attn_surgeon.load(path, model=network)
        with torch.no_grad():
            print(path.name, "gives the same output:", torch.equal(loaded(x), model(x)))
