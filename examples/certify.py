"""Certify an operated network against its original, and see a certificate fail once a gate is opened by hand."""

import torch

import attn_surgeon
from attn_surgeon.networks.demo import load_demo

network = load_demo()
x = torch.randn(1, 1, 32, 32)
model = attn_surgeon.insert(network, block="eca", after="layer*", example=x)

certificate = attn_surgeon.certify(network, model, x)
print("passed:", certificate.passed)

with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "attn_surgeon" in name:
            parameter.fill_(0.1)
for check in attn_surgeon.certify(network, model, x).checks:
    print(f"{check.status:8} {check.name}: {check.detail}")
