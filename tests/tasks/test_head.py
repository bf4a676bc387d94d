"""A head for the data's classes: the rest of the network stays, and the artefact loads again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import get_model_weights

from attn_surgeon import insert
from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.artefact.save import save
from attn_surgeon.errors import DataError, ExampleError, TrainingError
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks import SourceSpec, build_network, load_source, parse_source
from attn_surgeon.networks.preprocessing import Preprocessing, PreprocessingOverrides
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.tasks import get_task

from ..finetune.helpers import loaded, operated, same


def fitted(network: LoadedNetwork, class_names: tuple[str, ...], seed: int) -> LoadedNetwork:
    return get_task("classification").fit_head(network, class_names, FinetuneSettings(seed=seed))


CLASSES = ("cat", "dog", "fox")
RGB = Preprocessing((0.5,) * 3, (0.5,) * 3, (64, 64))


def test_a_head_that_fits_stays_and_its_classes_are_named() -> None:
    start = loaded()
    done = fitted(start, tuple("abcdefghij"), seed=0)
    assert same(done.model, operated())
    assert done.provenance.class_names == tuple("abcdefghij")
    assert done.notes == ()


@pytest.mark.parametrize("name", ["demo", "timm/resnet10t", "tv/mobilenet_v3_small", "timm/convnext_atto"])
def test_only_the_head_changes_and_the_artefact_loads(name: str, tmp_path: Path) -> None:
    loaded = load_source(parse_source(name, weights="none"))
    images = loaded.preprocessing if name == "demo" else RGB
    provenance = Provenance(loaded.spec, images)
    start = LoadedNetwork(set_provenance(loaded.model, provenance))
    model = insert(loaded.model, "se", at="stages", example=start.example)
    set_provenance(model, provenance)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    done = fitted(replace(start, model=model), CLASSES, seed=0)
    head = {key for key, tensor in done.model.state_dict().items() if tensor.shape != before[key].shape}
    assert len(head) == 2
    assert all(torch.equal(tensor, before[key]) for key, tensor in done.model.state_dict().items() if key not in head)
    assert "is new: 3 outputs" in done.notes[0]
    assert len(list_grafts(done.model)) == len(list_grafts(model)) > 0
    save(done.model, tmp_path / "x.safetensors")
    again = load(tmp_path / "x.safetensors")
    assert same(again, done.model)
    assert again(start.example).shape == (1, 3)


def test_a_new_head_is_the_seeds() -> None:
    heads = [fitted(loaded(), CLASSES, seed).model.get_submodule("fc").weight for seed in (0, 0, 1)]
    assert torch.equal(heads[0], heads[1])  # type: ignore[arg-type]
    assert not torch.equal(heads[0], heads[2])  # type: ignore[arg-type]


def test_a_network_of_ones_own_is_not_built_because_a_file_names_it() -> None:
    start = loaded()
    own = replace(start.provenance, source=replace(start.provenance.source, kind="file", name="evil.py:net"))
    set_provenance(start.model, own)
    with pytest.raises(TrainingError, match="10 outputs, the data 3 classes"):
        fitted(start, CLASSES, seed=0)


def test_raises_for_a_network_without_logits() -> None:
    start = loaded()
    with pytest.raises(DataError, match="logits"):
        fitted(LoadedNetwork(set_provenance(nn.Conv2d(1, 1, 1), start.provenance)), CLASSES, seed=0)


FACTORIES = """
from torch import Tensor, nn

def net(inputs=3, {name}=4):
    return nn.Sequential(nn.Conv2d(inputs, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, {name}))

def evil({name}=4):
    raise SystemExit("a file had its code run")
"""


@pytest.mark.parametrize("name", ["num_classes", "classes", "n_classes", "out_channels"])
def test_a_network_of_ones_own_is_built_again_by_the_users_word(name: str, tmp_path: Path) -> None:
    code = tmp_path / "own.py"
    code.write_text(FACTORIES.format(name=name))
    start = open_network(f"{code}:net", weights="none", images=PreprocessingOverrides((0.5,) * 3, (0.5,) * 3, (8, 8)))
    model = insert(start.model, "se", after="0", example=start.example)
    # the file may name what it likes: what is built again is what the user named
    named = replace(start.provenance, source=replace(start.provenance.source, name=f"{code}:evil"))
    set_provenance(model, named)
    save(model, tmp_path / "x.safetensors")
    opened = open_network(str(tmp_path / "x.safetensors"), source=f"{code}:net")
    done = fitted(opened, CLASSES, seed=0)
    assert done.model(start.example).shape == (1, 3)
    assert done.provenance.source.args == {name: 3}
    assert done.notes[-1] == "the head 3 is new: 3 outputs in place of 4"
    save(done.model, tmp_path / "y.safetensors")
    assert same(load(tmp_path / "y.safetensors", source=f"{code}:net"), done.model)


def test_a_factory_without_an_argument_for_classes_is_refused(tmp_path: Path) -> None:
    code = tmp_path / "own.py"
    code.write_text(FACTORIES.format(name="kinds"))
    start = open_network(f"{code}:net", weights="none", images=PreprocessingOverrides((0.5,) * 3, (0.5,) * 3, (8, 8)))
    with pytest.raises(TrainingError, match=r"4 outputs, the data 3 classes.*num_classes, classes, n_classes"):
        fitted(start, CLASSES, seed=0)


@pytest.mark.parametrize("name", ["resnet18", "lraspp_mobilenet_v3_large"])
def test_torchvisions_pretrained_networks_take_other_classes(name: str) -> None:
    """Their builders insist on as many classes as the weights have, which an artefact brings along itself."""
    spec = SourceSpec("torchvision", name, {"num_classes": 3})
    known = get_model_weights(name).DEFAULT
    categories = list(known.meta["categories"])
    model = build_network(spec).eval()
    output = model(torch.zeros(1, 3, 64, 64))
    assert (output if isinstance(output, torch.Tensor) else output["out"]).shape[1] == 3
    assert known.meta["categories"] == categories


class OneSize(nn.Module):
    """A classifier that takes one size, as vision transformers do."""

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, 3)."""
        torch._assert(x.shape[2] == 32, "the height is not 32")
        return x.mean((2, 3))


@pytest.mark.parametrize(
    ("task", "error", "said"),
    [
        ("classification", ExampleError, r"not run on its example: the height is not 32; input 1×3×64×64; .*example"),
        ("segmentation", DataError, "not run on windows of 64×64: the height is not 32; segmentation; .*crop"),
    ],
)
def test_a_size_that_the_network_does_not_take_is_refused(task: str, error: type[Exception], said: str) -> None:
    network = LoadedNetwork(set_provenance(OneSize(), replace(loaded().provenance, preprocessing=RGB)))
    with pytest.raises(error, match=said):
        get_task(task).fit_head(network, CLASSES, FinetuneSettings(task=task))
