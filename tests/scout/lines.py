"""Results as lines of a file by their keys: what is there is not computed again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

Line = dict[str, Any]


@dataclass(frozen=True)
class Lines:
    """The results in a file."""

    file: Path

    @cached_property
    def known(self) -> dict[str, Line]:
        """The lines by their keys; the last one is left out where a killed run has cut it off."""
        text = self.file.read_text() if self.file.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            self.file.write_text(whole)
        return {line["key"]: line for line in map(json.loads, whole.splitlines())}

    def add(self, key: str, make: Callable[[], Line]) -> None:
        """Compute a line and append it to the file, unless it is there."""
        if key in self.known:
            return
        since, busy = time.perf_counter(), time.process_time()
        made = make()
        spent = {"seconds": time.perf_counter() - since, "cpu_seconds": time.process_time() - busy}
        self.known[key] = {"key": key, **made, **spent}
        with self.file.open("a") as file:
            file.write(json.dumps(self.known[key]) + "\n")
