"""Artefacts and patches: what is saved comes back bit for bit, fits its base only, and runs no code by itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from attn_surgeon import insert, load, remove, save
from attn_surgeon.artefact.load import load_original
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.artefact.recipe_schema import Recipe
from attn_surgeon.errors import ArtefactError, SurgeonError
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.networks.preprocessing import PreprocessingOverrides
from attn_surgeon.surgery.installed_grafts import list_grafts
from tests.toy_networks import Root, SharedRelu, Tied, conv

EXAMPLE = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
OWN = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("ran").touch()

def net():
    return nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
"""


def opened(model: nn.Module) -> nn.Module:
    """Open every gate, so that the grafts change the output."""
    for made in list_grafts(model):
        for parameter in made.block.parameters():
            nn.init.normal_(parameter)
    return model.eval()


def operated_demo(block: str = "cbam", after: str = "layer*") -> nn.Module:
    model = open_network("demo").model
    return opened(insert(model, block, after=after, example=torch.randn(1, 1, 32, 32), inplace=True))


def same(first: nn.Module, second: nn.Module, x: Tensor) -> bool:
    mine, theirs = first.state_dict(), second.state_dict()
    tensors = mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    return tensors and torch.equal(first(x), second(x))


def refusal(path: Path, **options: Any) -> str:
    with pytest.raises(ArtefactError) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def own_network(folder: Path) -> tuple[Path, str]:
    """Save an operated network of a file in the folder; give the artefact and the source."""
    (folder / "own.py").write_text(OWN)
    source = f"{folder / 'own.py'}:net"
    model = open_network(source, images=PreprocessingOverrides((0.0,) * 4, (1.0,) * 4, (8, 8))).model
    save(opened(insert(model, "se", after="0", example=EXAMPLE, options={"reduction": 2})), folder / "x.safetensors")
    (folder / "ran").unlink()
    return folder / "x.safetensors", source


@pytest.mark.parametrize("block", ["cbam", "channel", "eca", "se", "spatial"])
@pytest.mark.parametrize("after", ["layer*", "layer*.*.bn2"])
@pytest.mark.parametrize("patch", [False, True])
def test_a_network_with_opened_gates_comes_back(tmp_path: Path, block: str, after: str, patch: bool) -> None:
    model, x = operated_demo(block, after), torch.randn(3, 1, 40, 32)
    assert not torch.equal(model(x), load_demo()(x))
    save(model, tmp_path / "x.safetensors", patch=patch)
    loaded = load(tmp_path / "x.safetensors")
    assert same(model, loaded, x)
    assert [made.graft for made in list_grafts(loaded)] == [made.graft for made in list_grafts(model)]
    assert not any(module.training for module in loaded.modules())


def test_a_patch_contains_the_grafts_only(tmp_path: Path) -> None:
    model = operated_demo()
    save(model, tmp_path / "x.safetensors", patch=True)
    state, stored = model.state_dict(), load_file(tmp_path / "x.safetensors")
    assert stored.keys() == {name for name in state if ".attn_surgeon." in name}
    assert all(torch.equal(stored[name], state[name]) for name in stored)


def test_a_patch_refuses_another_base(tmp_path: Path) -> None:
    save(operated_demo(), tmp_path / "x.safetensors", patch=True)
    other = load_demo()
    other.state_dict()["fc.bias"][3] += 1e-6
    refused = refusal(tmp_path / "x.safetensors", model=other)
    assert "does not fit this base" in refused
    assert refused.endswith("pass the network it was made from with model=NETWORK")
    assert "does not fit this base" in refusal(tmp_path / "x.safetensors", weights="none")
    assert load(tmp_path / "x.safetensors", model=load_demo()) is not None


def test_the_original_is_built_afresh(tmp_path: Path) -> None:
    save(operated_demo(), tmp_path / "x.safetensors")
    original = load_original(tmp_path / "x.safetensors")
    assert list_grafts(original) == []
    assert same(original, load_demo(), torch.randn(2, 1, 32, 32))


@pytest.mark.parametrize("patch", [False, True])
def test_an_own_network_is_run_only_when_trusted(tmp_path: Path, patch: bool) -> None:
    path, source = own_network(tmp_path)
    model = load(path, source=source)
    (tmp_path / "ran").unlink(missing_ok=True)
    if patch:
        save(model, path, patch=True)
    message = refusal(path)
    assert f"source={source}" in message
    assert not (tmp_path / "ran").exists()
    if not patch:  # a patch's base would have other random weights
        assert torch.equal(load(path, source=source)(EXAMPLE), model(EXAMPLE))


def test_another_own_network_does_not_fit(tmp_path: Path) -> None:
    path, _ = own_network(tmp_path)
    (tmp_path / "other.py").write_text(OWN.replace("BatchNorm2d(4)", "Identity()"))
    assert "do not fit the network" in refusal(path, source=f"{tmp_path / 'other.py'}:net")


def test_a_network_handed_over_in_python_is_asked_for(tmp_path: Path) -> None:
    base = Root(conv()).eval()
    model = opened(insert(base, "eca", after="stage", example=EXAMPLE))
    save(model, tmp_path / "x.safetensors")
    assert "model=network" in refusal(tmp_path / "x.safetensors")
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    assert same(load(tmp_path / "x.safetensors", model=base), model, EXAMPLE)
    assert list_grafts(base) == []
    assert all(torch.equal(tensor, before[name]) for name, tensor in base.state_dict().items())


class SharedWeight(nn.Module):
    """Tie two parameters, and keep a buffer that is a view with gaps."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()
        self.b.weight = self.a.weight
        self.register_buffer("table", torch.randn(6, 8).t()[::2])

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.b(self.a(x))) * self.get_buffer("table").sum()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("network", [SharedWeight, Tied, SharedRelu])
def test_odd_tensors_and_precisions_come_back(tmp_path: Path, network: type[nn.Module], dtype: torch.dtype) -> None:
    base, x = network().to(dtype).eval(), EXAMPLE.to(dtype)
    model = opened(insert(base, "eca", after="**", example=x))
    save(model, tmp_path / "x.safetensors")
    loaded = load(tmp_path / "x.safetensors", model=network())
    assert same(loaded, model, x)
    assert {tensor.dtype for tensor in loaded.state_dict().values()} == {dtype}


def test_tied_parameters_stay_tied(tmp_path: Path) -> None:
    save(insert(SharedWeight().eval(), "eca", after="a", example=EXAMPLE), tmp_path / "x.safetensors")
    loaded = load(tmp_path / "x.safetensors", model=SharedWeight())
    assert loaded.get_parameter("a.weight") is loaded.get_parameter("b.weight")


def test_a_second_insertion_and_a_removal_are_saved_as_they_are(tmp_path: Path) -> None:
    path, x = tmp_path / "x.safetensors", torch.randn(2, 1, 32, 32)
    save(operated_demo("cbam", "layer3"), path)
    stacked = opened(insert(load(path), "se", after="layer3", example=x))
    save(stacked, path)
    loaded = load(path)
    assert [made.graft.block["name"] for made in list_grafts(loaded)] == ["cbam", "se"]
    assert same(loaded, stacked, x)
    more = opened(insert(loaded, "eca", after="layer1", example=x))
    less = remove(more, "layer3")
    save(less, path)
    assert [made.graft.site for made in list_grafts(load(path))] == ["layer1"]
    assert same(load(path), less, x)


def test_the_stored_recipe_makes_the_same_grafts(tmp_path: Path) -> None:
    model = operated_demo("se", "layer*.0.bn1")
    model = insert(model, "cbam", before=("fc", "layer2"), after="layer2", example=torch.randn(1, 1, 32, 32))
    save(model, tmp_path / "x.safetensors")
    story = Recipe.from_dict(read_artefact(tmp_path / "x.safetensors").recipe)
    again = open_network(story.source.name, weights=story.source.weights, args=story.source.args).model
    for step in (operation.insert for operation in story.operations):
        options: dict[str, Any] = dict(step.options)
        example = torch.randn(1, 1, *(story.images.size or ()))
        again = insert(again, step.block, after=step.after, before=step.before, options=options, example=example)
    assert [(m.path, m.graft) for m in list_grafts(again)] == [(m.path, m.graft) for m in list_grafts(model)]


def rewrite(path: Path, change: dict[str, Any]) -> None:
    """Write an artefact's first graft anew with other words, and with a checksum that fits them."""
    with safe_open(path, framework="pt") as file:
        payload = json.loads(file.metadata()["attn_surgeon"])
    entry = payload["grafts"][0]
    entry["placement"] |= {name: value for name, value in change.items() if name in entry["placement"]}
    entry |= {name: value for name, value in change.items() if name not in entry["placement"]}
    text = json.dumps(payload)
    metadata = {"attn_surgeon": text, "attn_surgeon_sha256": hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
    save_file(load_file(path), path, metadata)


@pytest.mark.parametrize(
    "change",
    [
        {"key": "after(open('ran', 'w')) or self"},
        {"key": 'x"), open("ran", "w"), ("', "kind": "edge", "node": "bn2"},
        {"method": "forward(self, x=open('ran', 'w')): #"},
        {"binding": {"x=open('ran', 'w')": "<tensor>"}, "kind": "edge", "node": "bn2"},
        {"kind": "nowhere", "owner": "layer9"},
        {"kind": "edge", "owner": "layer3.1", "node": "bn2", "other": "bn1:open('ran', 'w')"},
        {"kind": "edge", "owner": "layer3.1", "node": "bn2", "other": "nowhere"},
        {"kind": "edge", "owner": "layer3.1", "node": "bn2", "side": "before", "argument": 7},
        {"kind": "edge", "owner": "layer3.1", "node": "bn2", "binding": {"x": {"kind": "exec", "keys": [0]}}},
        {"block": {"name": "se", "options": {"reduction": "x"}, "init": "identity"}},
        {"block": {"name": "os.system", "options": {}, "init": "identity"}},
        {"feature": None},
        {"unknown": 1},
    ],
)
def test_crafted_words_in_a_description_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.safetensors"
    save(operated_demo(after="layer3"), path)
    rewrite(path, change)
    with pytest.raises(SurgeonError):
        load(path)
    assert not (tmp_path / "ran").exists()


FEATURE = {"shape": [1, 64, 8, 8], "dtype": "float32", "layout": "NCHW", "channels": 64, "prefix": 0, "grid": None}


@pytest.mark.parametrize(
    "change",
    [
        {"format": "1"},
        {"patch": "no"},
        {"source": "demo"},
        {"source": {"kind": "demo", "name": "demo", "args": {}, "weights": 3}},
        {"source": {"kind": "demo", "name": "demo", "args": {"num_classes": 10**30}, "weights": "default"}},
        {"source": {"kind": "demo", "name": "demo", "args": {"num_classes": -1}, "weights": "default"}},
        {"preprocessing": {"mean": [0.3], "std": [0.3], "size": [10**9, 10**9], "channels": 1}},
        {"preprocessing": {"mean": [float("nan")], "std": [0.3], "size": [32, 32], "channels": 1}},
        {"class_names": 10},
        {"certificate": {"checks": [{"name": "x"}], "torch": "2"}},
        {"certificate": []},
        {"recipe": None},
        {"base_sha256": None},
        {"grafts": {}},
        {"grafts": [{}]},
        {"unknown": 1},
        {"feature": FEATURE | {"channels": 10**30}},
        {"feature": FEATURE | {"channels": 10**9}},
        {"feature": FEATURE | {"channels": 0}},
        {"feature": FEATURE | {"channels": -64}},
        {"feature": FEATURE | {"shape": []}},
        {"feature": FEATURE | {"dtype": "__doc__"}},
        {"feature": FEATURE | {"dtype": "int64"}},
        {"block": {"options": {}, "init": "identity"}},
        {"block": {"name": ["cbam"], "options": {}, "init": "identity"}},
        {"block": {"name": "cbam", "options": {"kernel_size": 10**30 + 1}, "init": "identity"}},
    ],
)
def test_wrong_types_and_huge_numbers_in_metadata_are_refused_in_one_line(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = tmp_path / "x.safetensors"
    save(operated_demo(after="layer3"), path)
    with safe_open(path, framework="pt") as file:
        payload = json.loads(file.metadata()["attn_surgeon"])
    (name,) = change
    (payload["grafts"][0] if name in payload["grafts"][0] else payload).update(change)
    text = json.dumps(payload)
    metadata = {"attn_surgeon": text, "attn_surgeon_sha256": hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
    save_file(load_file(path), path, metadata)
    with pytest.raises(SurgeonError) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_only_artefacts_are_replaced_without_being_asked(tmp_path: Path) -> None:
    path, model = tmp_path / "x.safetensors", operated_demo()
    save_file({"weight": torch.ones(3)}, path)
    before = path.read_bytes()
    with pytest.raises(ArtefactError, match="overwrite=True"):
        save(model, path)
    assert path.read_bytes() == before
    save(model, path, overwrite=True)
    first = path.read_bytes()
    save(opened(model), path)
    assert path.read_bytes() != first


def test_a_newer_format_is_refused_by_its_number(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save(operated_demo(), path)
    with safe_open(path, framework="pt") as file:
        text = json.dumps(json.loads(file.metadata()["attn_surgeon"]) | {"format": 2})
    metadata = {"attn_surgeon": text, "attn_surgeon_sha256": hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}
    save_file(load_file(path), path, metadata)
    assert "its format is 2" in refusal(path)


def test_a_network_whose_values_are_elsewhere_is_not_saved(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU())
    model = insert(net, "se", after="0", example=torch.zeros(1, 4, 8, 8), options={"reduction": 2}).to("meta")
    with pytest.raises(ArtefactError, match=r"0\.weight has no plain values to save: it is on the meta device"):
        save(model, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
