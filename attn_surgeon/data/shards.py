"""WebDataset shards: tar files in which an image and its label share a name (`0001.jpg`, `0001.cls`).

The headers of a shard contain the offset of each image, so images are read in any order without unpacking. Opening
reads the headers once, which takes about 4 s for 100,000 members in the page cache. Remote shards are downloaded first.
Compressed shards (`.tar.gz`) are not supported.
"""

from __future__ import annotations

import io
import itertools
import math
import os
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from attn_surgeon.data.folders import IMAGE_SUFFIXES
from attn_surgeon.data.images import NAMES_SHOWN, message_line
from attn_surgeon.data.timm_sets import SPLIT_ALIASES
from attn_surgeon.errors import DataError, excerpt, first_few, option
from attn_surgeon.text_files import parse_json, read_text

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_MOST_SHARDS, _MOST_DIGITS = 100_000, 18
_INFO = ("_info.json", "info.json")
_EXAMPLE = 'write {"splits": {"train": {"filenames": ["a-000.tar"]}, "validation": …}}, or use a brace pattern'


@dataclass(frozen=True)
class ShardMember:
    """The location of an image in a shard: its offset and size in bytes, and its name."""

    shard: Path
    offset: int
    size: int
    name: str


class Shards:
    """The images in shards."""

    def __init__(self, members: list[ShardMember], labels: list[int]) -> None:
        self.members, self.labels = members, labels

    def name(self, index: int) -> str:
        """Return the shard and the name of the image in it."""
        return f"{self.members[index].shard}/{self.members[index].name}"

    def open(self, index: int) -> BinaryIO:
        """Read the bytes of one image."""
        member = self.members[index]
        with member.shard.open("rb") as file:
            file.seek(member.offset)
            return io.BytesIO(file.read(member.size))


def open_shards(name: str, split: str, root: str | None, download: bool) -> tuple[Shards, tuple[str, ...]]:
    """Open shards: a pattern such as `flowers-{000..127}.tar`, or a folder whose `_info.json` lists splits.

    The labels in shards are class numbers, or class names, which are then numbered in alphabetical order.
    """
    spec = f"wds/{name}"
    paths, key = _located(name, split, root, download)
    members = [item for path in paths for item in _members(path, key)]
    texts = [text for _, text in members]
    numbered = all(re.fullmatch(r"\d{1,6}", text) for text in texts)
    names = tuple(map(str, range(max(map(int, texts), default=-1) + 1))) if numbered else tuple(sorted({*texts}))
    if not members:
        raise DataError("no images with labels", spec, "expected the label of 1.jpg in 1.cls")
    numbers = {class_name: number for number, class_name in enumerate(names)}
    labels = [numbers[str(int(text)) if numbered else text] for text in texts]
    return Shards([member for member, _ in members], labels), names


def shard_splits(name: str, root: str | None) -> list[str]:
    """Return the names of the splits in the `_info.json` of a folder; none for a pattern."""
    folder = Path(root or "", name)
    return list(_info(folder)["splits"]) if os.path.isdir(folder) else []  # noqa: PTH112 - a name can be too long


def shard_files(name: str, root: str | None) -> list[Path]:
    """Return the shards on this machine that a pattern or a folder's description names."""
    folder = Path(root or "", name)
    if os.path.isdir(folder):  # noqa: PTH112
        paths = [folder / file for split in _info(folder)["splits"].values() for file in split["filenames"]]
    else:
        paths = [Path(root or "", shard.rpartition("/")[2] if "://" in shard else shard) for shard in _named(name)]
    return sorted({path for path in paths if os.path.isfile(path)})  # noqa: PTH113


def _named(name: str) -> list[str]:
    return expanded(name.partition("|")[0])  # timm's names may end in `|` and the number of images


def _located(name: str, split: str, root: str | None, download: bool) -> tuple[list[Path], str]:
    """Return the paths of the shards, and the key of the label in `.json` members, used where there is no `.cls`."""
    folder = Path(root or "", name)
    if os.path.isdir(folder):  # noqa: PTH112
        splits = _info(folder)["splits"]
        found = next((alias for alias in SPLIT_ALIASES.get(split, (split,)) if alias in splits), None)
        if found is None:
            raise DataError(f"no split {split!r}", str(folder), f"splits here: {', '.join(splits)}")
        paths, key = [folder / file for file in splits[found]["filenames"]], splits[found].get("alt_label")
    else:
        paths, key = [_local(shard, root, download) for shard in _named(name)], None
    missing = [path.name for path in paths if not os.path.isfile(path)]  # noqa: PTH113
    if missing:
        hint = "expected a pattern such as wds/flowers-{000..127}.tar, or a folder with _info.json"
        raise DataError(f"no such shard: {first_few(missing, NAMES_SHOWN)}", f"wds/{name}", hint)
    return paths, key or "label"


def expanded(pattern: str) -> list[str]:
    """Return the names that a pattern with braces expands to, as in a shell; raise DataError where there are too many.

    >>> expanded("a-{00..02}.tar")
    ['a-00.tar', 'a-01.tar', 'a-02.tar']
    """
    pieces = _BRACES.split(pattern)
    choices = [_choices(piece) if number % 2 else [piece] for number, piece in enumerate(pieces)]
    if math.prod(map(len, choices)) > _MOST_SHARDS:
        raise _too_many(pattern)
    return ["".join(combination) for combination in itertools.product(*choices)]


def _choices(text: str) -> list[str]:
    ends = _RANGE.fullmatch(text)
    if ends is None:
        return text.split(",")
    first, last = ends.groups()
    if max(len(first), len(last)) > _MOST_DIGITS or int(last) - int(first) >= _MOST_SHARDS:
        raise _too_many(f"{{{text}}}")
    return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]


def _too_many(pattern: str) -> DataError:
    return DataError(f"more than {_MOST_SHARDS:,} shards", f"wds/{excerpt(pattern)}", "name fewer, or a folder of them")


def _local(shard: str, root: str | None, download: bool) -> Path:
    """Return the local path of a shard, after downloading a remote one if that is allowed."""
    if "://" not in shard:
        return Path(root or "", shard)
    if not shard.startswith(("https://", "http://")) or root is None or not download:
        hint = f"http and https: {option('download', True)} with {option('data_dir', 'DIR')}; copy others here first"
        raise DataError("the shard is not on this machine", shard, hint)
    path = Path(root, shard.rpartition("/")[2])
    if not path.is_file():
        from torch.hub import download_url_to_file

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            download_url_to_file(shard, str(path), progress=False)
        except (OSError, RuntimeError) as error:
            raise DataError(f"download failed ({message_line(error)})", shard, "check the address") from error
    return path


def _info(folder: Path) -> dict[str, Any]:
    """Read the description of a folder of shards."""
    for name in _INFO:
        try:
            if not (folder / name).exists():
                continue
            info = parse_json(read_text(folder / name, DataError))
            if all(_is_split(split) for split in info["splits"].values()):
                return dict(info)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(f"invalid description ({message_line(error)})", str(folder / name), _EXAMPLE) from error
    raise DataError("the folder has no _info.json", str(folder), _EXAMPLE)


def _is_split(split: dict[str, Any]) -> bool:
    label, names = split.get("alt_label"), split["filenames"]
    return isinstance(names, list) and all(isinstance(word, str) for word in (*names, "" if label is None else label))


def _members(path: Path, key: str) -> list[tuple[ShardMember, str]]:
    """Return the images of a shard that have a label, with the text of the label."""
    images: dict[str, ShardMember] = {}
    labels: dict[str, str] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for item in tar:
                folder, _, base = item.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                name = f"{folder}/{stem}"
                if item.isfile() and f".{suffix.lower()}" in IMAGE_SUFFIXES:
                    images[name] = ShardMember(path, item.offset_data, item.size, item.name)
                elif item.isfile() and suffix in ("cls", "json"):
                    _add_label(labels, name, suffix, tar.extractfile(item), key)
    except (OSError, tarfile.TarError, EOFError) as error:
        raise DataError(
            f"the shard is unreadable ({message_line(error)})", str(path), "it must be a plain tar"
        ) from error
    return [(member, labels[name]) for name, member in images.items() if name in labels]


def _add_label(labels: dict[str, str], name: str, suffix: str, file: Any, key: str) -> None:
    """Add the label in a `.cls` or `.json` member; `.cls` takes precedence."""
    text = file.read().decode("utf-8", "replace").strip()
    if suffix == "cls":
        labels[name] = text
    elif name not in labels:
        try:
            labels[name] = str(parse_json(text)[key])
        except (ValueError, KeyError, TypeError, RecursionError):
            return
