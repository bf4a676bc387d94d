"""The public names: one list, every name of which can be imported."""

from __future__ import annotations

import attn_surgeon


def test_every_public_name_is_importable() -> None:
    found = {name: getattr(attn_surgeon, name) for name in dir(attn_surgeon) if name != "__version__"}
    assert {"insert", "remove", "find_sites", "certify", "check", "list_grafts"} <= found.keys()
    assert all(item.__name__ == name for name, item in found.items())
