"""Export an operated network as ONNX: the file is compared with PyTorch at every size before it is put in its place."""

import torch

import attn_surgeon
from attn_surgeon.networks.demo import load_demo

x = torch.randn(1, 1, 32, 32)
model = attn_surgeon.insert(load_demo(), block="coord", after="layer*", example=x)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "attn_surgeon" in name:
            parameter.add_(0.1)  # as if trained: grafts that are still the identity are left out of the file

written = attn_surgeon.export_onnx(model, "demo-coord.onnx", example=x, dynamic="batch=1:64,height,width")
for parity in written.parities:
    for difference in parity.differences:
        print(f"{difference.size}: {difference.relative:.1e} of the largest output from {parity.against}")
print(f"{written.path}, {written.nodes} nodes")
