"""Hosts that make another program of a network, and networks that are such programs already."""

from __future__ import annotations

import copy
import io
from typing import Any

import torch
from torch import fx, nn

from .host import Apply
from .networks import Placements, Tiny

GRAPH = Placements("stem.2", "block.bn2", "block.conv2")
BESIDE = Placements("block", "block.bn2", "block.conv2")
FEATURES = Placements("layer2", "layer2.0.bn2", "layer2.0.conv2")


def graph() -> nn.Module:
    return fx.symbolic_trace(Tiny())


class TwoModes(Tiny):
    """A network that computes more in train mode."""

    def forward(self, x: Any) -> Any:
        y = super().forward(x)
        return y + 1 if self.training else y


def dual_graph() -> nn.Module:
    from torchvision.models.feature_extraction import create_feature_extractor

    extractor: nn.Module = create_feature_extractor(TwoModes(), ["fc"], suppress_diff_warning=True)
    return extractor


def symbolically_traced(network: nn.Module, x: Any) -> Any:
    return fx.symbolic_trace(network)


def copied_to_eval(network: nn.Module, x: Any) -> Any:
    """Copy and choose the mode again, which a copy of torchvision's networks with two graphs does not keep."""
    return copy.deepcopy(network).eval()


def recompiled(network: Any, x: Any) -> Any:
    network.recompile()
    return network


def transformed(network: Any, x: Any) -> Any:
    return fx.Transformer(network).transform()


def interpreted(network: Any, x: Any) -> Any:
    return lambda x: fx.Interpreter(network).run(x)


def edited(network: Any, x: Any) -> Any:
    """Edit the graph, as a pass does, and compile it again."""
    for node in network.graph.nodes:
        if node.op == "call_module" and node.target == "fc":
            with network.graph.inserting_after(node):
                more = network.graph.call_function(torch.mul, (node, 1.0))
            node.replace_all_uses_with(more, delete_user_cb=lambda user, more=more: user is not more)
    network.graph.lint()
    network.recompile()
    return network


def in_train_mode(network: nn.Module, x: Any) -> Any:
    """Give the output in train mode after going to and fro."""
    network.train().eval().train()
    return lambda x: run_training(network, x)


@torch.no_grad()
def run_training(network: nn.Module, x: Any) -> Any:
    network.train()
    try:
        return network(x)
    finally:
        network.eval()


def feature_extractor(network: nn.Module, x: Any) -> Any:
    from torchvision.models.feature_extraction import create_feature_extractor

    return create_feature_extractor(network, ["fc"])


def timm_resnet() -> nn.Module:
    import timm

    network: nn.Module = timm.create_model("test_resnet", num_classes=10)
    return network


def feature_graph(network: nn.Module, x: Any) -> Any:
    from timm.models._features_fx import FeatureGraphNet

    return FeatureGraphNet(network, out_indices=(4,))


def jit_traced(network: nn.Module, x: Any) -> Any:
    return torch.jit.trace(network, x)  # type: ignore[no-untyped-call]


def jit_scripted(network: nn.Module, x: Any) -> Any:
    return torch.jit.script(network)


def jit_frozen(network: nn.Module, x: Any) -> Any:
    return torch.jit.freeze(torch.jit.script(network))


def compiled(backend: str) -> Apply:
    def compile_network(network: nn.Module, x: Any) -> Any:
        torch._dynamo.reset()
        return torch.compile(network, backend=backend)

    return compile_network


def compiled_in_place(network: nn.Module, x: Any) -> Any:
    torch._dynamo.reset()
    network.compile(backend="eager", fullgraph=True)
    return network


def compiled_first() -> nn.Module:
    torch._dynamo.reset()
    network = Tiny()
    network.compile(backend="eager")
    return network


def scripted_first() -> Any:
    """Build a network with one child that is a program already."""
    network: Any = Tiny()
    network.stem = torch.jit.script(network.stem)
    return network


def exported(network: nn.Module, x: Any) -> Any:
    return torch.export.export(network, (x,)).module()


def exported_and_loaded(network: nn.Module, x: Any) -> Any:
    buffer = io.BytesIO()
    torch.export.save(torch.export.export(network, (x,)), buffer)
    buffer.seek(0)
    return torch.export.load(buffer).module()


def unflattened(network: nn.Module, x: Any) -> Any:
    return torch.export.unflatten(torch.export.export(network, (x,)))


def onnx(*, dynamo: bool) -> Apply:
    """Make a host that exports with one of PyTorch's own exporters and runs the file."""

    def export(network: nn.Module, x: Any) -> Any:
        import onnxruntime

        buffer: Any = io.BytesIO()
        torch.onnx.export(network, (x,), buffer, dynamo=dynamo, input_names=["x"], verbose=False)
        session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
        return lambda x: [torch.from_numpy(value) for value in session.run(None, {"x": x.numpy()})]

    return export
