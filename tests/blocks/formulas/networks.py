"""Channels of published networks, at the places where papers put their blocks."""

from __future__ import annotations

RESNET50_BRANCHES = (*[256] * 3, *[512] * 4, *[1024] * 6, *[2048] * 3)  # the ends of ResNet-50's residual branches
