"""Channels of published networks, at the places where papers put their blocks."""

from __future__ import annotations

RESNET50_BRANCHES = (*[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 3)  # the ends of ResNet-50's residual branches
MOBILENETV2_DEPTHWISE = (96, *[144] * 2, *[192] * 3, *[384] * 4, *[576] * 3, *[960] * 3)  # of its expanded blocks
