"""The demo network: its names, its sizes, and the weights it ships with."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from attn_surgeon.data.opening import open_dataset
from attn_surgeon.networks.demo import DEMO_PREPROCESSING, demo, load_demo
from attn_surgeon.networks.demo.network import WEIGHTS
from attn_surgeon.tasks.accuracy import measure_accuracy


def test_blocks_carry_the_usual_names() -> None:
    model = demo()
    assert [name for name, _ in model.named_children()] == [
        *("conv1", "bn1", "relu", "layer1", "layer2", "layer3", "fc")
    ]
    children = {name for name, _ in model.get_submodule("layer2.0").named_children()}
    assert children == {"conv1", "bn1", "relu", "conv2", "bn2", "downsample"}
    assert {name for name, _ in model.get_submodule("layer2.1").named_children()} == children - {"downsample"}


def test_a_block_adds_its_input_to_what_its_convolutions_say() -> None:
    block = load_demo().get_submodule("layer1.1")
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        branch = torch.relu(block.bn1(block.conv1(x)))  # type: ignore[operator]
        branch = block.bn2(block.conv2(branch))  # type: ignore[operator]
        assert torch.equal(block(x), torch.relu(branch + x))


@pytest.mark.parametrize("size", [(32, 32), (48, 48), (25, 60)])
def test_any_image_size_is_taken(size: tuple[int, int]) -> None:
    with torch.no_grad():
        logits = demo(num_classes=7).eval()(torch.zeros(2, 1, *size))
    assert logits.shape == (2, 7)
    assert torch.equal(logits[0], logits[1])


def test_the_pretrained_network_is_ready_for_inference() -> None:
    assert not any(module.training for module in load_demo().modules())


def test_the_weights_are_small_and_complete() -> None:
    assert WEIGHTS.stat().st_size < 2_000_000
    with safe_open(WEIGHTS, framework="pt") as stored:
        assert set(stored.keys()) == set(demo().state_dict())


@pytest.mark.parametrize(
    ("task", "stated"), [("demo", "accuracy"), ("demo-clutter", "clutter_accuracy")], ids=["clean", "clutter"]
)
def test_the_weights_reach_the_accuracy_they_state(task: str, stated: str) -> None:
    with safe_open(WEIGHTS, framework="pt") as stored:
        metadata = stored.metadata()
    found = measure_accuracy(load_demo(), open_dataset(task, "val", DEMO_PREPROCESSING))
    # Another processor may tip an image on the edge between two classes.
    assert abs(found.correct - float(metadata[stated]) * found.images) <= 2


def test_the_clean_task_is_solved_and_the_cluttered_one_is_not() -> None:
    with safe_open(WEIGHTS, framework="pt") as stored:
        metadata = stored.metadata()
    assert float(metadata["accuracy"]) > 0.98
    assert float(metadata["clutter_accuracy"]) < 0.5
