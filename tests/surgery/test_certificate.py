"""Every check of the certificate passes on a sound network, and fails on one that is broken in its way."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.errors import ExampleError
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.certificate import Certificate, Check, certify
from attn_surgeon.surgery.installed_grafts import list_grafts
from tests import toy_networks

from .helpers import blocks, grafted, image, opened

RUNS = "every graft runs"
EVAL = "identity in eval, 2×4×8×8"
SECOND = "identity in eval, 2×4×32×32"
TRAIN = "identity in train"
BFLOAT16 = "identity in bfloat16, 2×4×32×32"
KEYS, ALIVE, REMOVE = "keys and values kept", "grafts can learn", "remove gives the original back"


def checks(original: nn.Module, model: nn.Module, expect_identity: bool = True) -> dict[str, Check]:
    checked = certify(original, model, image(), expect_identity=expect_identity).checks
    return {check.name: check for check in checked}


def failed(original: nn.Module, model: nn.Module, expect_identity: bool = True) -> set[str]:
    found = checks(original, model, expect_identity=expect_identity)
    return {name for name, check in found.items() if check.status == "failed"}


def first(model: nn.Module) -> nn.Module:
    return blocks(model)[0]


@torch.no_grad()
def put(parameter: Tensor, value: float) -> None:
    parameter.fill_(value)


class Wrong(nn.Module):
    """Be a block that starts as the identity and has one fault."""

    def __init__(self, fault: Callable[[Wrong, Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.last, self.fault = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1)), fault

    def forward(self, x: Tensor) -> Tensor:
        return self.fault(self, x)


def with_block(net: nn.Module, site: str, fault: Callable[[Wrong, Tensor], Tensor]) -> nn.Module:
    model = grafted(net, site)
    (made,) = list_grafts(model)
    parent, _, key = made.path.rpartition(".")
    model.get_submodule(parent)._modules[key] = Wrong(fault)
    return model


def test_sound_network_passes_everything() -> None:
    net = toy_networks.InPlace()
    certificate = certify(net, grafted(net, ["bn", "add"]), image())
    assert certificate.passed
    assert [check.name for check in certificate.checks] == [RUNS, EVAL, SECOND, TRAIN, BFLOAT16, KEYS, ALIVE, REMOVE]
    assert {check.status for check in certificate.checks} == {"passed"}


def test_opened_graft_fails_all_identities_with_the_difference() -> None:
    net, x = toy_networks.Residual(), image()
    model = grafted(net, "add")
    put(first(model).get_parameter("fc2.bias"), 1)
    found = {check.name: check for check in certify(net, model, x).checks}
    assert {name for name, check in found.items() if check.status == "failed"} == {EVAL, SECOND, TRAIN, BFLOAT16}
    with torch.no_grad():
        largest = float((model(x).double() - net(x).double()).abs().max())
    assert found[EVAL].detail == f"outputs differ by up to {largest:.3g}"


def test_opened_graft_passes_when_no_identity_is_expected() -> None:
    net = toy_networks.InPlace()
    found = checks(net, opened(net, ["bn", "add"]), expect_identity=False)
    assert {check.status for check in found.values()} == {"passed"}
    assert found[EVAL].detail.endswith("grafts bypassed")


def test_changed_weight_fails_keys_and_names_it() -> None:
    net = toy_networks.InPlace()
    model = grafted(net, "add")
    put(model.get_parameter("bn.bias"), 0.5)
    found = checks(net, model)
    assert found[KEYS] == Check(KEYS, "failed", "bn.bias")
    assert found[REMOVE].status == "failed"


def test_lost_key_fails_keys() -> None:
    net = toy_networks.InPlace()
    model = grafted(net, "add")
    model.get_submodule("conv2").register_parameter("bias", None)
    assert checks(net, model)[KEYS] == Check(KEYS, "failed", "conv2.bias")


def test_statistics_that_differ_after_training_fail() -> None:
    net = toy_networks.InPlace()
    model = grafted(net, "add")
    bn = model.get_submodule("bn2")
    assert isinstance(bn, nn.BatchNorm2d)
    bn.momentum = 0.5
    found = checks(net, model)
    assert found[TRAIN].detail == "statistics differ afterwards: bn2.running_mean, bn2.running_var"
    assert failed(net, model) == {TRAIN}


def test_two_zero_layers_in_a_row_cannot_learn() -> None:
    net = toy_networks.Residual()
    model = grafted(net, "add")
    put(first(model).get_parameter("fc1.weight"), 0)
    put(first(model).get_parameter("fc1.bias"), 0)
    found = checks(net, model)
    assert found[ALIVE].status == "failed"
    assert "fc1.weight" in found[ALIVE].detail
    assert failed(net, model) == {ALIVE}


def test_product_of_two_zeros_cannot_learn() -> None:
    net = toy_networks.Residual()
    model = with_block(net, "add", lambda block, x: x * (1 + block.first * block.last))
    assert failed(net, model) == {ALIVE}


def test_site_the_output_does_not_depend_on() -> None:
    class Ignored(toy_networks.Residual):
        def forward(self, x: Tensor) -> Tensor:
            torch.relu(self.conv(x))
            return x * 2

    net = Ignored()
    found = checks(net, grafted(net, "relu"))
    assert found[ALIVE] == Check(ALIVE, "failed", "after relu: the output does not depend on the tensor there")


def test_an_empty_output_has_no_gradient() -> None:
    class Detecting(toy_networks.Residual):
        def forward(self, x: Tensor) -> Tensor:
            scores: Tensor = super().forward(x).flatten()
            return scores[scores > scores.max()]

    net = Detecting()
    found = checks(net, grafted(net, "add"))
    why = "the output is empty on this example, so it has no gradient: no objects detected?"
    assert found[ALIVE] == Check(ALIVE, "skipped", why)


def test_one_of_two_sites_that_the_output_does_not_depend_on() -> None:
    class HalfIgnored(toy_networks.Residual):
        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = x + self.conv(x)
            torch.relu(y)
            return y

    net = HalfIgnored()
    found = checks(net, grafted(net, ["add", "relu"]))
    assert found[ALIVE] == Check(ALIVE, "failed", "after relu: the output does not depend on the tensor there")


def test_gradient_that_is_not_finite() -> None:
    net = toy_networks.Residual()
    model = with_block(net, "add", lambda block, x: x + (block.first.abs().sqrt() + block.last) * x)
    assert checks(net, model)[ALIVE] == Check(ALIVE, "failed", "a gradient is not finite")


def test_block_that_draws_random_numbers_fails_train_with_dropout() -> None:
    def draws(block: Wrong, x: Tensor) -> Tensor:
        torch.rand(1)
        return x * (1 + block.first + block.last)

    net = toy_networks.FunctionalDropout()
    assert failed(net, with_block(net, "conv", draws)) == {TRAIN}


def test_block_that_only_bfloat16_changes() -> None:
    def rounds(block: Wrong, x: Tensor) -> Tensor:
        return x * (1 + block.first + block.last) + (x.dtype == torch.bfloat16)

    net = toy_networks.Residual()
    assert failed(net, with_block(net, "add", rounds)) == {BFLOAT16}


def test_block_of_one_size_fails_at_the_second() -> None:
    def one_size(block: Wrong, x: Tensor) -> Tensor:
        if x.shape[-1] != 8:
            raise ValueError("it takes one size")
        return x * (1 + block.first + block.last)

    net = toy_networks.Residual()
    found = checks(net, with_block(net, "add", one_size))
    assert found[SECOND] == Check(SECOND, "failed", "it takes one size")
    assert found[BFLOAT16].status == "failed"


def test_network_of_one_size_skips_the_second() -> None:
    net = toy_networks.OneSize(toy_networks.Residual(), 8)
    found = checks(net, grafted(net, "inner"))
    assert found["identity at a second size"].status == "skipped"
    assert {check.status for check in found.values()} == {"passed", "skipped"}


def test_other_class_after_removal_fails() -> None:
    class Other(toy_networks.Residual):
        pass

    net = toy_networks.Root(toy_networks.Residual())
    other = toy_networks.Root(Other())
    other.load_state_dict(net.state_dict())
    assert checks(net, grafted(other, "stage"))[REMOVE] == Check(REMOVE, "failed", "modules differ in class")


def test_a_nondeterministic_network_is_distinguished() -> None:
    class Random(toy_networks.Residual):
        calls = 0

        def forward(self, x: Tensor) -> Tensor:
            Random.calls += 1
            return self.conv(x) + Random.calls  # type: ignore[no-any-return]

    net = Random()
    found = checks(net, copy.deepcopy(net))
    assert found[EVAL].detail == "the original itself returns another output when run twice"


def test_round_trip_that_loses_the_grafts_fails() -> None:
    net = toy_networks.Residual()
    model = opened(net, "add")
    kept = certify(net, model, image(), expect_identity=False, round_trip=copy.deepcopy).checks[-1]
    lost = certify(net, model, image(), expect_identity=False, round_trip=lambda _: net).checks[-1]
    assert (kept.status, lost.status) == ("passed", "failed")
    assert lost.detail.startswith("outputs differ by up to")


def test_round_trip_that_raises_fails_with_its_reason() -> None:
    def raises(model: nn.Module) -> nn.Module:
        raise OSError("the disk is full\nand more")

    net = toy_networks.Residual()
    check = certify(net, grafted(net, "add"), image(), round_trip=raises).checks[-1]
    assert check == Check("save and load", "failed", "the disk is full")


def test_neither_network_is_changed() -> None:
    net = toy_networks.InPlace()
    model = grafted(net, ["bn", "add"], block="cbam")
    before = [copy.deepcopy(each.state_dict()) for each in (net, model)]
    flags = [[p.requires_grad for p in each.parameters()] for each in (net, model)]
    certify(net, model, image())
    for each, state, flag in zip((net, model), before, flags, strict=True):
        assert all(torch.equal(value, state[key]) for key, value in each.state_dict().items())
        assert [p.requires_grad for p in each.parameters()] == flag


@pytest.mark.parametrize("block", ["se", "eca", "cbam", "channel", "spatial"])
def test_every_block_can_learn(block: str) -> None:
    net = toy_networks.InPlace()
    options = {} if block in ("eca", "spatial") else {"reduction": 4}
    model = insert(net, block, after=["bn", "add"], example=image(), options=options)
    assert certify(net, model, image()).passed


def test_certificate_as_plain_data() -> None:
    certificate = Certificate((Check("a", "passed", "b"), Check("c", "failed", "d")), "1.2")
    assert not certificate.passed
    assert Certificate.from_dict(certificate.to_dict()) == certificate


def test_an_example_that_the_original_does_not_take_is_an_error_and_no_certificate() -> None:
    with pytest.raises(ExampleError, match="does not run on the example"):
        certify(ReadsClassToken(), ReadsClassToken(), torch.randn(1, 9, 8, 8))


def test_original_and_operated_in_the_wrong_order_fail() -> None:
    net = toy_networks.Residual()
    found = {check.name: check.status for check in certify(grafted(net, "conv"), net, image()).checks}
    assert found["keys and values kept"] == "failed"


class ImageAndIndex(nn.Module):
    """Takes an image and an integer beside it, and gives a dict."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.table = nn.Embedding(3, 4)

    def forward(self, x: Tensor, index: Tensor) -> dict[str, Tensor]:
        return {"out": self.conv(x) + self.table(index)[:, :, None, None]}


@pytest.mark.parametrize("batch", [1, 2])
def test_integers_beside_the_image_are_batched_with_it(batch: int) -> None:
    net, example = ImageAndIndex().eval(), (image(batch), torch.zeros(batch, dtype=torch.long))
    model = insert(net, "se", after="conv", example=example, options={"reduction": 2})
    certificate = certify(net, model, example)
    assert [check for check in certificate.checks if check.status == "failed"] == []
    assert next(check for check in certificate.checks if check.name == ALIVE).status == "passed"


class ReadsClassToken(nn.Module):
    """Patches and a class token, of which the head reads the class token alone."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(4, 8, 4, stride=4)
        self.cls = nn.Parameter(torch.randn(1, 1, 8))
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        mean = tokens.mean(1, keepdim=True)
        tokens = torch.cat((self.cls.expand(len(x), -1, -1) + mean, tokens), 1)
        out: Tensor = self.fc(self.norm(tokens)[:, 0])
        return out


def test_grafts_beside_the_one_token_that_is_read_are_reported() -> None:
    net, x = ReadsClassToken().eval(), image(size=16)
    model = insert(net, "se", after="norm", example=x, options={"reduction": 2})
    found = {check.name: check for check in certify(net, model, x).checks}
    assert found[ALIVE].status == "failed"
    assert (
        found[ALIVE].detail
        == "after norm: the layers after it read only the prefix tokens, which the graft leaves unchanged"
    )
