"""Every block of the catalogue in networks of every layout: the output stays, and the block learns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from attn_surgeon.blocks import block_names, get_card
from attn_surgeon.blocks.base.card import REACHES
from attn_surgeon.errors import PlanError
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import seeded

from .surveyed import surveyed_once
from .turns import in_turns


# what is behind a site is cut off, for it takes most of the time
def maps() -> nn.Module:
    model: nn.Module = timm.create_model("resnet18", drop_path_rate=0.1, zero_init_last=False)
    model.layer3 = model.layer4 = nn.Identity()
    model.fc = nn.Linear(128, 5)
    return model


def vectors() -> nn.Module:
    model: nn.Module = timm.create_model("resnet18")
    model.layer2 = model.layer3 = model.layer4 = nn.Identity()
    model.fc = nn.Linear(64, 5)
    return model


def volumes() -> nn.Module:
    model = torchvision.models.video.r3d_18(num_classes=5)
    model.layer3 = model.layer4 = nn.Identity()
    model.fc = nn.Linear(128, 5)
    return model  # type: ignore[no-any-return]


def sequences() -> nn.Module:
    return nn.Sequential(nn.Conv1d(3, 24, 5), nn.BatchNorm1d(24), nn.ReLU(), nn.Dropout(0.2), nn.Conv1d(24, 4, 3))


def timm_network(name: str, **options: object) -> Callable[[], nn.Module]:
    return lambda: timm.create_model(name, **options)


# layout: network, example's shape, site, blocks' reaches that run there
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, set[str]]] = {
    "NCHW": (maps, (2, 3, 64, 64), "layer2.1.bn2", set(REACHES)),
    "NLC": (
        timm_network("vit_tiny_patch16_224", img_size=64, depth=2, proj_drop_rate=0.1),
        (2, 3, 64, 64),
        "blocks.0",
        set(REACHES),
    ),
    "NHWC": (
        timm_network("swin_tiny_patch4_window7_224", img_size=64, window_size=2, depths=(1, 1), num_heads=(3, 6)),
        (2, 3, 64, 64),
        "layers.1",
        set(REACHES),
    ),
    "NCDHW": (volumes, (1, 3, 4, 24, 24), "layer2", {"channels", "positions"}),
    "NCL": (sequences, (2, 3, 30), "2", {"channels", "positions"}),
    "NC": (vectors, (2, 3, 64, 64), "global_pool", {"channels"}),
}


@pytest.fixture(scope="module", params=NETWORKS)
def layout(request: pytest.FixtureRequest) -> str:
    """Return a layout; all blocks run on its network before the next is built."""
    return str(request.param)


@pytest.fixture(scope="module")
def network(layout: str) -> Iterator[tuple[nn.Module, Tensor]]:
    """Build and survey each network once; it is never changed."""
    build, shape, *_ = NETWORKS[layout]
    torch.manual_seed(0)
    model, x = build().eval(), torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with surveyed_once(model, x):
        yield model, x


@pytest.mark.parametrize("name", in_turns(block_names(), 2))
def test_block_in_network(name: str, layout: str, network: tuple[nn.Module, Tensor]) -> None:
    model, x = network
    site, reaches = NETWORKS[layout][2:]
    if get_card(name).runs_on not in reaches or get_card(name).selective:
        with pytest.raises(PlanError, match="no chosen site can take the block"):
            insert(model, name, example=x, after=site)
        return
    operated = insert(model, name, example=x, after=site)
    assert [made.graft.feature.layout for made in list_grafts(operated)] == [layout]
    for training in (False, True):
        with torch.no_grad():
            assert torch.equal(output(operated, x, training), output(model, x, training))
    assert not still(operated, x)


def output(model: nn.Module, x: Tensor, training: bool) -> Tensor:
    """Run without keeping what a run in train mode does to the statistics."""
    kept = {key: value.clone() for key, value in model.state_dict().items()}
    with seeded(0):
        made: Tensor = model.train(training)(x)
    model.eval().load_state_dict(kept)
    return made


def still(model: nn.Module, x: Tensor) -> set[str]:
    """List the block's parameters without a gradient in the first two steps."""
    block = list_grafts(model)[0].block
    silent = {name for name, _ in block.named_parameters()}
    for _ in range(2):
        found = torch.autograd.grad(model(x).square().sum(), list(block.parameters()), allow_unused=True)
        for (name, parameter), gradient in zip(list(block.named_parameters()), found, strict=True):
            if gradient is not None and gradient.any():
                silent.discard(name)
                parameter.data -= 0.01 * gradient / gradient.abs().max()
    return silent


def test_the_readme_counts_the_blocks() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    assert f"| {len(block_names())} attention blocks" in readme
