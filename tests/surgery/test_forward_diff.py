"""The generated code beside the original."""

from __future__ import annotations

import torch

from attn_surgeon import insert
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.surgery.forward_diff import differences, original_text, readable

X = torch.randn(1, 1, 32, 32)


def test_an_untouched_network_has_none() -> None:
    assert differences(load_demo()) == []


def test_modules_rewritten_alike_are_shown_once() -> None:
    model = insert(load_demo(), "se", after=("layer1.*.bn2", "layer2"), example=X)
    first, second = sorted(differences(model), key=lambda change: change.owners)
    assert (first.cls, first.owners) == ("BasicBlock", ("layer1.0", "layer1.1"))
    assert (second.cls, second.owners) == ("BasicBlock", ("layer2.1",))
    assert first.original == second.original == original_text(type(load_demo().get_submodule("layer1.0")))
    assert "self.attn_surgeon.after_bn2" in first.generated
    assert "self.attn_surgeon.after(output)" in second.generated


def test_the_original_is_as_written() -> None:
    text = original_text(type(load_demo().get_submodule("layer1.0")))
    assert text.startswith("def forward(self, x: Tensor) -> Tensor:\n    ")
    assert text.endswith("return cast(Tensor, self.relu(out))")
    assert original_text(dict, ["fromkeys"]).startswith("# the source of dict.fromkeys")  # type: ignore[arg-type]
    assert original_text(dict, ["nothing"]) == ""  # type: ignore[arg-type]


def test_the_clean_up_of_fx_is_left_out() -> None:
    assert readable("a = f(x);  x = None\nb = g(a);  a = y = None  # note\nreturn b\n") == (
        "a = f(x)\nb = g(a)  # note\nreturn b"
    )
