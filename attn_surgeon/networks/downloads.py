"""Download pretrained weights, with short timeouts and errors that name the alternatives."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlparse

from attn_surgeon.errors import SurgeonError, WeightsError, option
from attn_surgeon.user_code import one_line, quiet

ALTERNATIVES = f"name a file with {option('weights', 'FILE')}, or start untrained with {option('weights', 'none')}"
_TIMEOUT = 10.0  # seconds without any data; a slow download is not interrupted


def no_weights(where: str) -> WeightsError:
    """Return the error for a network without published weights."""
    return WeightsError("no pretrained weights exist for this network", where, ALTERNATIVES)


@contextlib.contextmanager
def download_errors(where: str) -> Iterator[None]:
    """Raise WeightsError, with the alternatives, for any exception of a download."""
    before = socket.getdefaulttimeout()
    # torch.hub calls urlopen without a timeout, so the process's default is the only way to set one
    socket.setdefaulttimeout(before or _TIMEOUT)
    try:
        with quiet():
            yield
    except SurgeonError:
        raise
    except Exception as error:
        what = f"the pretrained weights could not be downloaded ({one_line(error)})"
        raise WeightsError(what, where, ALTERNATIVES) from error
    finally:
        socket.setdefaulttimeout(before)


def fetch_url(url: str, where: str, filename: str = "", *, check_hash: bool = True) -> Path:
    """Return the file of a URL, from torch.hub's cache if it is there."""
    from torch import hub

    filename = filename or Path(urlparse(url).path).name
    target = Path(hub.get_dir()) / "checkpoints" / filename
    if target.exists():
        return target
    found = hub.HASH_REGEX.search(filename) if check_hash else None
    with download_errors(where):
        target.parent.mkdir(parents=True, exist_ok=True)
        hub.download_url_to_file(url, str(target), found.group(1) if found else None)
    return target


def fetch_hub(repo: str, revision: str | None, filenames: Sequence[str], where: str) -> Path:
    """Return the first of these files that a Hugging Face repository has, from the cache if it is there."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    for filename in filenames:
        cached = try_to_load_from_cache(repo, filename, revision=revision)
        if isinstance(cached, str):
            return Path(cached)
    with download_errors(where):
        filename = _published(repo, revision, filenames, where)
        return Path(hf_hub_download(repo, filename, revision=revision))


def _published(repo: str, revision: str | None, filenames: Sequence[str], where: str) -> str:
    """Return the first of these files that the repository has."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError

    # hf_hub_download retries its first request for most of a minute; a single request fails at once
    for filename in filenames:
        try:
            get_hf_file_metadata(hf_hub_url(repo, filename, revision=revision))
        except EntryNotFoundError:
            continue
        return filename
    raise WeightsError("its repository has no weights file", where, ALTERNATIVES)
