"""Shell completion of networks, blocks, sites and artefacts.

Names come from a cache that commands fill, because importing torch at every TAB would take seconds. Where the cache
is empty, names are looked up, without running the user's code.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import typer

from attn_surgeon.cli.files import own_artefacts
from attn_surgeon.files import write_atomically

_PACKAGES = ("attn-surgeon", "timm", "torchvision")


def _cache_file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "attn-surgeon" / "completion.json"


def _versions() -> str:
    found = []
    for package in _PACKAGES:
        with suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    library = Path(__file__).parents[1]  # a source or block added to a checkout changes no version number
    changed = [path.stat().st_mtime_ns for path in (library / "networks" / "sources", *(library / "blocks").glob("*/"))]
    return ", ".join([*found, str(max(changed))])


def _read() -> dict[str, Any]:
    """Read the cache; one written by other versions counts as empty."""
    try:
        cache = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        cache = {}
    valid = isinstance(cache, dict) and isinstance(cache.get("sites"), dict) and cache.get("versions") == _versions()
    return cache if valid else {"versions": _versions(), "sites": {}}


def cache_names(source: str, sites: Iterable[str]) -> None:
    """Write the names that completion offers to the cache: networks, blocks, groups, and this network's sites."""
    cache = _read()
    cache["sites"][source] = sorted(sites)
    _write({key: look_up() for key, look_up in _LOOK_UPS.items() if key not in cache} | cache)


def _write(cache: dict[str, Any]) -> None:
    file = _cache_file()
    with suppress(OSError):  # completion works without a cache, only slower
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps(cache))


def _names(key: str) -> list[str]:
    cache = _read()
    if key not in cache:
        cache[key] = _LOOK_UPS[key]()
        _write(cache)
    names: list[str] = cache[key]
    return names


def _networks() -> list[str]:
    from attn_surgeon.networks import model_names

    return model_names()


def _blocks() -> list[str]:
    from attn_surgeon.blocks import block_names

    return block_names()


def _groups() -> list[str]:
    from attn_surgeon.surgery.sites.groups import GROUPS

    return list(GROUPS)


_LOOK_UPS: dict[str, Callable[[], list[str]]] = {"networks": _networks, "blocks": _blocks, "groups": _groups}


def networks(incomplete: str) -> list[str]:
    """Complete the name of a network."""
    prefix = "timm/" if incomplete.startswith("timm/") else ""
    names = [prefix + name for name in _names("networks")]
    return [name for name in names if name.startswith(incomplete)] + artefacts(incomplete)


def blocks(incomplete: str) -> list[str]:
    """Complete the name of a block, or of the last one of a stack."""
    before, plus, last = incomplete.rpartition("+")
    return [before + plus + name for name in _names("blocks") if name.startswith(last)]


def groups(incomplete: str) -> list[str]:
    """Complete the name of a group of sites."""
    return [name for name in _names("groups") if name.startswith(incomplete)]


def artefacts(incomplete: str) -> list[str]:
    """Complete the path of an artefact in the current folder."""
    return [str(path) for path in own_artefacts(Path()) if str(path).startswith(incomplete)]


def sites(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete the name of a site of the network on the line, one dotted part at a time."""
    unparsed = (
        ctx.args[0] if ctx.args else ""
    )  # click leaves arguments here while an option before them lacks its value
    source = ctx.params.get("network") or ctx.params.get("artefact") or unparsed
    known: list[str] = _read()["sites"].get(source) or _look_up_sites(source)
    depth = incomplete.count(".") + 1
    if ":" not in incomplete:  # names such as `cat:1`, one of several tensors, only once a colon is typed
        known = [name for name in known if ":" not in name]
    return sorted({".".join(name.split(".")[:depth]) for name in known if name.startswith(incomplete)})


def _look_up_sites(source: str) -> list[str]:
    """Return the sites of a network, built without weights; none where that would run the user's own code."""
    if not source or ":" in source or source.endswith(".safetensors"):
        return []
    from attn_surgeon.artefact.open_network import open_network
    from attn_surgeon.errors import SurgeonError
    from attn_surgeon.surgery.sites.survey import find_sites

    try:
        loaded = open_network(source, weights="none")
        names = [site.name for site in find_sites(loaded.model, loaded.example)]
    except SurgeonError:
        return []
    cache_names(source, names)
    return names
