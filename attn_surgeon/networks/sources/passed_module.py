"""Networks passed in Python, which cannot be rebuilt from an artefact."""

from __future__ import annotations

from typing import NoReturn

from attn_surgeon.errors import SourceError
from attn_surgeon.networks.source import Source, SourceSpec


def _refuse(spec: SourceSpec) -> NoReturn:
    raise SourceError("this network was passed in Python, so it cannot be rebuilt here", spec.name, "pass it again")


SOURCE = Source("object", "", lambda text: None, _refuse, _refuse, user_code=True)
