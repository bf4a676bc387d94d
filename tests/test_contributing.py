"""The examples of CONTRIBUTING.md work as they stand: a block, a source and an export format."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).parents[1]
USE = """
import sys

import torch

from attn_surgeon import certify, insert, load, save
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.cli.app import main

network = open_network("tiny/net", args={"width": 6})
model = insert(network.model, "max-gate", after="0", example=network.example)
assert certify(network.model, model, network.example).passed
trained = insert(network.model, "max-gate", after="0", example=network.example, init="paper")
assert not torch.equal(trained(network.example), network.model(network.example))
save(model, "tiny.safetensors")
assert torch.equal(load("tiny.safetensors")(network.example), network.model(network.example))
sys.argv = ["attn-surgeon", "export", "tiny.safetensors", "--format", "traced", "--output", "tiny.ts"]
try:
    main()
except SystemExit as done:
    assert not done.code, done.code
images = torch.rand(1, 1, 8, 8)
difference = (torch.jit.load("tiny.ts")(images) - network.model(images)).abs().max()
assert difference < 1e-6, difference
print("used all of them")
"""


def test_the_worked_examples_run(tmp_path: Path) -> None:
    text = (REPO / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(examples) == 3
    (tmp_path / "program.py").write_text("\n".join([*examples, USE]), encoding="utf-8")
    command = [sys.executable, "-W", "ignore", "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.stdout.endswith("used all of them\n"), done.stderr
