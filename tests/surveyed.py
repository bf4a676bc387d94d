"""Many insertions into one network that is never changed: each would find the same sites, so they are found once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

from torch import nn

from attn_surgeon.operations import insert as operations
from attn_surgeon.surgery.running import Example
from attn_surgeon.surgery.sites.survey import Survey, survey


@contextmanager
def surveyed_once(model: nn.Module, example: Example) -> Iterator[None]:
    """Make `insert` use one survey of the network; for any other network it makes its own."""
    found = survey(model, example)

    def kept(other: nn.Module, other_example: Example) -> Survey:
        return found if other is model and other_example is example else survey(other, other_example)

    with mock.patch.object(operations, "survey", kept):
        yield
