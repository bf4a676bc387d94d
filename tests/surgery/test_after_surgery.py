"""What people do with a network after surgery: its own entry points, copies, compilers, wrappers, precisions."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.utils.model_ema import ModelEmaV3
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import seeded
from attn_surgeon.surgery.rewrite.operated_modules import is_operated, original_class
from attn_surgeon.surgery.running import run_network, same_bits
from tests.outside.helpers import settle
from tests.surgery.helpers import open_up

# network: (sites of the grafts, options); the first word is the library
NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "timm resnet18": ({"at": "stages@layer*"}, {"drop_path_rate": 0.1, "layers": (1, 2, 1, 1)}),
    "timm vit_tiny_patch16_224": (
        {"at": "residual", "after": "blocks.{1,3}"},
        {"img_size": 64, "depth": 5, "embed_dim": 48, "drop_path_rate": 0.1},
    ),
    "timm convnext_atto": ({"at": ["residual", "stages"]}, {"depths": (1, 1, 2, 1), "dims": (16, 24, 32, 48)}),
    "timm tinynet_e": ({"at": "residual", "after": "blocks.*"}, {"drop_rate": 0.1}),
    "timm regnetx_002": ({"after": ["stem", "s[1-4]"], "at": "residual"}, {}),
    "timm swin_tiny_patch4_window7_224": (
        {"after": "layers.*", "at": "residual"},
        {"img_size": 64, "window_size": 2, "depths": (1, 1, 2, 1), "embed_dim": 24},
    ),
    "timm dla34": ({"after": "level*"}, {"channels": (8, 16, 16, 24, 32, 48)}),
    "timm densenet121": ({"after": "features.denseblock*", "at": "fusions"}, {"block_config": (2, 3, 3, 2)}),
    "timm xcit_nano_12_p8_224": ({"after": "blocks.{1,3}"}, {"depth": 4}),
    "timm poolformer_s12": ({"at": ["stages", "residual"], "every": 2}, {}),
    "torchvision resnet18": ({"at": "residual", "after": "layer*"}, {}),
    "torchvision mobilenet_v3_small": ({"after": "features.{1,3,8,12}", "at": "blocks@features.[4-6]"}, {}),
}
OF_TIMM = [name for name in NETWORKS if name.startswith("timm")]  # they have entry points that others have not
CHECKPOINTED = [name for name in OF_TIMM if name != "timm dla34"]  # which says that it cannot
TIMM = pytest.mark.parametrize("case", OF_TIMM, indirect=True)


def every_third(first: int) -> pytest.MarkDecorator:
    """Parametrize by all networks; two thirds of them are slow tests."""
    slow = pytest.mark.slow
    cases = [pytest.param(name, marks=() if place % 3 == first else slow) for place, name in enumerate(NETWORKS)]
    return pytest.mark.parametrize("case", cases, indirect=True)


@dataclass(frozen=True)
class Case:
    """A network, the same with grafts that are still the identity, and the same with opened ones."""

    name: str
    original: Any
    grafted: Any
    opened: Any
    x: Tensor


@pytest.fixture(scope="module", params=NETWORKS)
def case(request: pytest.FixtureRequest) -> Case:
    """Make each network once, for all tests of it."""
    torch.manual_seed(0)
    selection, options = NETWORKS[request.param]
    library, name = request.param.split()
    make = timm.create_model if library == "timm" else torchvision.models.get_model
    original, x = make(name, **options).eval(), torch.randn(2, 3, 64, 64)
    settle(original, x)
    grafted = insert(original, "se", example=x, options={"reduction": 4}, **selection)
    opened = open_up(copy.deepcopy(grafted))
    assert not same_bits(run_network(opened, x), run_network(original, x))
    return Case(request.param, original, grafted, opened, x)


def gradients(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Return the output of one step in train mode and the gradients of all parameters."""
    model.train()
    with seeded(1):
        output = model(x)
        output.square().mean().backward()
    found = [output.detach(), *(p.grad for p in model.parameters() if p.grad is not None)]
    model.zero_grad()
    model.eval()
    return found


@TIMM
@torch.no_grad()
def test_features_and_head_go_through_the_grafts(case: Case) -> None:
    original, grafted, opened, x = case.original, case.grafted, case.opened, case.x
    assert same_bits(grafted.forward_features(x), original.forward_features(x))
    features = opened.forward_features(x)
    assert not same_bits(features, original.forward_features(x))
    assert torch.equal(opened.forward_head(features), opened(x))


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "site", "options"),
    [
        ("resnet18", "maxpool", {}),
        ("vit_tiny_patch16_224", "norm", {"img_size": 64, "depth": 2}),
        ("efficientnet_b0", "conv_stem", {}),
        ("convnext_atto", "stem", {}),
        ("densenet121", "features.norm5", {"block_config": (2, 2, 2, 2)}),
    ],
)
def test_features_go_through_grafts_beside_the_stages(name: str, site: str, options: dict[str, Any]) -> None:
    original, x = timm.create_model(name, **options).eval(), torch.randn(1, 3, 64, 64)
    grafted: Any = insert(original, "se", after=site, example=x)
    opened: Any = open_up(copy.deepcopy(grafted))
    assert same_bits(grafted.forward_features(x), original.forward_features(x))
    assert not same_bits(opened.forward_features(x), original.forward_features(x))


@TIMM
@torch.no_grad()
def test_intermediates_are_those_behind_the_grafts(case: Case) -> None:
    original, grafted, opened, x = case.original, case.grafted, case.opened, case.x
    assert same_bits(grafted.forward_intermediates(x), original.forward_intermediates(x))
    final, levels = opened.forward_intermediates(x)
    assert same_bits(final, opened.forward_features(x))
    changed = [not torch.equal(*pair) for pair in zip(levels, original.forward_intermediates(x)[1], strict=True)]
    assert changed == sorted(changed)
    assert changed[-2:] == [True, True]


@TIMM
@torch.no_grad()
def test_pruned_networks_keep_their_grafts(case: Case) -> None:
    pruned = copy.deepcopy(case.opened)
    expected = case.opened.forward_intermediates(case.x, indices=[1], intermediates_only=True)
    pruned.prune_intermediate_layers([1])
    assert same_bits(pruned.forward_intermediates(case.x, indices=[1], intermediates_only=True), expected)


@TIMM
@torch.no_grad()
def test_a_new_classifier_reads_what_the_grafts_give(case: Case) -> None:
    original, grafted, opened = (copy.deepcopy(each) for each in (case.original, case.grafted, case.opened))
    expected = opened.forward_head(opened.forward_features(case.x), pre_logits=True)
    for each in (original, grafted, opened):
        each.reset_classifier(0)
    assert torch.equal(grafted(case.x), original(case.x))
    assert torch.equal(opened(case.x), expected)
    opened.reset_classifier(7)
    assert opened(case.x).shape == (2, 7)


@pytest.mark.parametrize("case", CHECKPOINTED, indirect=True)
def test_gradient_checkpointing_computes_the_same(case: Case) -> None:
    plain, checkpointed = copy.deepcopy(case.opened), copy.deepcopy(case.opened)
    checkpointed.set_grad_checkpointing(True)
    assert same_bits(gradients(checkpointed, case.x), gradients(plain, case.x))


@torch.no_grad()
def test_stages_are_iterated_indexed_and_sliced(case: Case) -> None:
    """The graft after a stage is met whether the stage is called or its parts are."""
    modules = dict(case.opened.named_modules())
    for made in list_grafts(case.opened):
        stage = modules.get(made.graft.site)
        if not isinstance(stage, nn.Sequential) or len(stage) == 0:
            continue
        seen: list[Tensor] = []
        with stage[0].register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].clone())):
            run_network(case.opened, case.x)
        expected = stage(seen[0].clone())
        walked = seen[0].clone()
        for part in stage:
            walked = part(walked)
        assert torch.equal(walked, expected)
        if original_class(stage) is nn.Sequential:  # a subclass with arguments of its own cannot be sliced
            assert torch.equal(stage[-1](stage[:-1](seen[0].clone())), expected)
        assert len(list(stage)) == len(stage) == len(case.original.get_submodule(made.graft.site))


def test_classes_are_kept(case: Case) -> None:
    mine, theirs = dict(case.original.named_modules()), dict(case.opened.named_modules())
    assert [path for path in theirs if "attn_surgeon" not in path] == list(mine)
    assert isinstance(case.opened, type(case.original))
    for path, module in mine.items():
        assert original_class(theirs[path]) is type(module)
        assert is_operated(theirs[path]) or type(theirs[path]) is type(module)


def test_copies_compute_the_same(case: Case) -> None:
    expected = run_network(case.opened, case.x)
    copied, pickled = copy.deepcopy(case.opened), pickle.loads(pickle.dumps(case.opened))
    assert torch.equal(run_network(copied, case.x), expected)
    assert torch.equal(run_network(pickled, case.x), expected)
    assert torch.equal(run_network(remove(pickled), case.x), run_network(case.original, case.x))


@every_third(0)
@torch.no_grad()
def test_compiles_as_one_graph(case: Case) -> None:
    torch.compiler.reset()
    compiled: Any = torch.compile(case.opened, fullgraph=True, backend="eager")
    assert torch.equal(compiled(case.x), case.opened(case.x))


@every_third(1)
@torch.no_grad()
def test_exports(case: Case) -> None:
    program = torch.export.export(case.opened, (case.x,))
    assert torch.equal(program.module()(case.x), case.opened(case.x))


@pytest.fixture(scope="module")
def one_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("gloo") / "store"
    distributed.init_process_group("gloo", init_method=file.as_uri(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore:Grad strides do not match")  # of ConvNeXt's convolutions, without grafts too
def test_runs_distributed(case: Case) -> None:
    plain, inner = copy.deepcopy(case.opened), copy.deepcopy(case.opened)
    wrapped = DistributedDataParallel(inner)
    assert same_bits(gradients(wrapped, case.x), gradients(plain, case.x))


@torch.no_grad()
def test_averages_hold_the_grafts_too(case: Case) -> None:
    model, x = copy.deepcopy(case.grafted), case.x
    moving, averaged = ModelEmaV3(model, decay=0.5), AveragedModel(model)
    averaged.update_parameters(model)
    open_up(model)
    for parameter, other in zip(case.opened.parameters(), model.parameters(), strict=True):
        other.copy_(parameter)
    moving.update(model)
    averaged.update_parameters(model)
    for average in (moving.module, averaged.module):
        for old, new, mean in zip(
            case.grafted.parameters(), case.opened.parameters(), average.parameters(), strict=True
        ):
            assert torch.allclose(mean, (old + new) / 2, atol=1e-6)
        assert not torch.equal(run_network(average, x), run_network(case.original, x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_identity_in_half_precision(case: Case, dtype: torch.dtype) -> None:
    mine, theirs, x = copy.deepcopy(case.original).to(dtype), copy.deepcopy(case.grafted).to(dtype), case.x.to(dtype)
    assert same_bits(run_network(theirs, x), run_network(mine, x))
    assert not same_bits(run_network(copy.deepcopy(case.opened).to(dtype), x), run_network(mine, x))


def test_identity_in_channels_last(case: Case) -> None:
    last = torch.channels_last
    mine, theirs = (copy.deepcopy(each).to(memory_format=last) for each in (case.original, case.grafted))
    x = case.x.to(memory_format=last)
    assert same_bits(run_network(theirs, x), run_network(mine, x))
    assert same_bits(gradients(theirs, x)[0], gradients(mine, x)[0])


def test_hooks_receive_the_output_of_the_graft(case: Case) -> None:
    """A hook made before surgery stays, and meets the output behind a graft at its module's exit."""
    hooked, seen = copy.deepcopy(case.original), dict[str, Tensor]()
    watch(hooked, seen)
    hooked = open_up(insert(hooked, "se", example=case.x, options={"reduction": 4}, **NETWORKS[case.name][0]))
    watch(nn.ModuleDict({made.path.replace(".", "/"): made.block for made in list_grafts(hooked)}), seen)
    run_network(hooked, case.x)
    exits = [made for made in list_grafts(hooked) if made.graft.placement.kind == "exit"]
    assert exits
    for made in exits:
        assert torch.equal(seen[made.owner], seen[made.path])


def watch(model: nn.Module, seen: dict[str, Any]) -> None:
    """Note the output of every child by its path."""
    for path, module in model.named_modules():
        if path:
            key = path.replace("/", ".")
            module.register_forward_hook(lambda _, __, output, key=key: seen.update({key: output}))
