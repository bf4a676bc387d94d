"""Registered blocks are dropped after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from attn_surgeon.blocks.base import registry


@pytest.fixture(autouse=True)
def own_blocks_dropped() -> Iterator[None]:
    yield
    registry._OWN.clear()
