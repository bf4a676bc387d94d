"""The U-Net, and attention in it: CBAM in the encoder, gates on the skips, a filter at the deepest fusion."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import run_network
from tests.examples.example_files import example
from tests.surgery.helpers import block_at, identical

ENCODER = [f"after enc{stage}" for stage in (1, 2, 3, 4)]
SKIPS = [f"before up{stage}.cat:0" for stage in (1, 2, 3, 4)]
DEEPEST = "before up4.cat:1"


@cache
def networks() -> tuple[nn.Module, nn.Module, Tensor]:
    """Give the network, the same with attention, and an input."""
    torch.manual_seed(0)
    model = example("unet").unet(classes=3, width=16)
    x = torch.randn(2, 3, 32, 48)
    run_network(model, x, training=True)  # statistics that are not the ones of a new BatchNorm
    return model, example("unet").attend(model, x), x


@torch.no_grad()
def opened(place: str) -> tuple[nn.Module, nn.Module]:
    """Open one graft of a copy; give the copy and the graft's block."""
    side, site = place.split()
    model = copy.deepcopy(networks()[1])
    block = block_at(model, site, side)
    for parameter in block.parameters():
        parameter.normal_()
    return model, block


def test_it_labels_every_pixel() -> None:
    model, _, x = networks()
    assert run_network(model, x).shape == (2, 3, 32, 48)
    assert sum(parameter.numel() for parameter in example("unet").unet().parameters()) == 1_942_594


@pytest.mark.parametrize("encoder", [1, 2, 3, 4])
def test_every_stage_of_the_encoder_is_joined_at_its_own_size(encoder: int) -> None:
    """The first half of what a decoder convolves is the encoder's map."""
    model, _, x = networks()
    seen: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda _, args, output, path=path: seen.update({path: output, f"{path} input": args[0]})
        )
        for path in (f"enc{encoder}", f"up{encoder}.convs")
    ]
    run_network(model, x)
    for hook in hooks:
        hook.remove()
    joined, skip = seen[f"up{encoder}.convs input"], seen[f"enc{encoder}"]
    assert torch.equal(joined[:, : joined.shape[1] // 2], skip)


def test_attention_is_where_it_was_asked_for() -> None:
    made = {f"{item.graft.side} {item.graft.site}": item.graft.block["name"] for item in list_grafts(networks()[1])}
    expected = dict.fromkeys(ENCODER, "cbam") | dict.fromkeys(SKIPS, "gate") | {DEEPEST: "mdaf"}
    assert made == expected


def test_attention_changes_nothing_at_first() -> None:
    model, attentive, x = networks()
    assert identical(model, attentive, x)


@pytest.mark.parametrize("place", [*ENCODER, *SKIPS, DEEPEST])
def test_every_graft_matters(place: str) -> None:
    model, _, x = networks()
    assert not torch.equal(run_network(opened(place)[0], x), run_network(model, x))


@pytest.mark.parametrize("place", [*SKIPS, DEEPEST])
def test_blocks_of_two_inputs_see_the_skip_and_the_decoder(place: str) -> None:
    """What a block is given is what the decoder joins, and each of the two changes what it gives."""
    model, block = opened(place)
    seen: list[Any] = []
    with block.register_forward_hook(lambda _, args, output: seen.append((*args, output))):
        run_network(model, networks()[2])
    ((first, second, output),) = seen
    stage = place.split(".", maxsplit=1)[0][-1]
    skip, decoder = (second, first) if place == DEEPEST else (first, second)
    assert torch.equal(decoder, tensor_after(model, f"up{stage}.enlarge"))
    assert torch.equal(skip, tensor_after(model, f"enc{stage}"))
    block.eval()
    with torch.no_grad():
        assert not torch.equal(block(first, second.flip(3)), output)
        assert not torch.equal(block(first.flip(3), second), output)


def tensor_after(model: nn.Module, path: str) -> Tensor:
    """Give the output of a module in a run."""
    seen: list[Tensor] = []
    with model.get_submodule(path).register_forward_hook(lambda _, __, output: seen.append(output)):
        run_network(model, networks()[2])
    return seen[0]


def test_removal_restores_the_original() -> None:
    model, attentive, x = networks()
    restored = remove(attentive)
    assert identical(model, restored, x)
    assert list(restored.state_dict()) == list(model.state_dict())
    assert [type(module) for module in restored.modules()] == [type(module) for module in model.modules()]
