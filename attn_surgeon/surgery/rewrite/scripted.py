"""TorchScript of a network with grafts: a copy whose forwards are source that it compiles, with traced blocks.

`torch.jit.script` compiles source, and asks a module's `__prepare_scriptable__` first what to compile in its place.
"""

from __future__ import annotations

import inspect
import re
import textwrap
import warnings
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.errors import ExportError, first_line
from attn_surgeon.surgery.isolation import isolates
from attn_surgeon.surgery.rewrite.expected import expected_of
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of, own_children
from attn_surgeon.surgery.rewrite.operated import GUARD, code_of, original_class, run_source
from attn_surgeon.surgery.running import map_tensors, run_network, same_bits, tensors

_CHECKS = re.compile(rf"^    (\w+ = \S*_require\w*\(.*|{GUARD}\(self\))\n", re.MULTILINE)


@isolates
def prepare_scriptable(network: nn.Module) -> nn.Module:
    """Return what `torch.jit.script` is to compile in a network's place; it computes what the network does.

    Raises ExportError where TorchScript does not take it, or computes something else.
    """
    if expected_of(network) is None:
        what = f"torch.jit.script compiles no part of a network with attn_surgeon's grafts, such as a {_name(network)}"
        raise ExportError(what, "", "script the network that the blocks were inserted into, or use torch.jit.trace")
    try:
        made = _plain(network, {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(made)
        _require_same(network, scripted)
        _keep_compiled(made, scripted)
    except ExportError:
        raise
    except Exception as error:
        what = f"torch.jit.script does not compile the {_name(network)} with attn_surgeon's grafts: {first_line(error)}"
        raise ExportError(what[:300], "", "use torch.jit.trace or torch.export, which take it") from error
    return made


def _keep_compiled(made: nn.Module, scripted: Any) -> None:
    """Reuse the compiled children in what is compiled next, which takes nearly as long otherwise."""
    made._modules.update({name: child for name, child in scripted._modules.items() if made._modules[name] is not None})


def _name(module: nn.Module) -> str:
    return original_class(module).__name__


def _plain(module: nn.Module, made: dict[int, nn.Module]) -> nn.Module:
    """Copy the structure of a network, with the same parameters, of classes that have source."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    if id(module) not in made:
        grafts = grafts_of(module)
        cls = original_class(module) if grafts is None else _with_source(module)
        new: Any = object.__new__(cls)
        made[id(module)] = new
        vars(new).update({name: item for name, item in vars(module).items() if not name.startswith("_attn_surgeon")})
        vars(new)["_modules"] = {name: child and _plain(child, made) for name, child in own_children(module).items()}
        if grafts is not None:
            new._modules[RESERVED] = _traced_blocks(grafts)
    return made[id(module)]


def _with_source(module: nn.Module) -> type[nn.Module]:
    """Build a class like an operated module's, whose forward is source for the mode that the module is in."""
    base, code = original_class(module), code_of(module)
    if vars(module).get("forward") is not None:
        raise ExportError(f"the forward of a {base.__name__} was replaced on the object", "", "use torch.jit.trace")
    texts = dict(code.sources)
    for method in list(texts):
        chosen = texts.get(f"_{method.strip('_')}_{'train' if module.training else 'eval'}")
        if chosen is not None:
            texts[method] = re.sub(r"^def \w+\(", f"def {method}(", chosen, count=1)
    texts["forward"] = texts.get("forward", "").replace("_original.forward(self, ", "self._own_forward(")
    methods = {name: _compiled(name, _CHECKS.sub("", text), dict(code.names)) for name, text in texts.items() if text}
    if "_own_forward(" in texts["forward"]:  # TorchScript names a method as its source does
        source = textwrap.dedent(inspect.getsource(base.forward)).replace("def forward(", "def _own_forward(", 1)
        methods["_own_forward"] = _compiled("_own_forward", source, dict(base.forward.__globals__))
    make: Any = type(base)
    cls: type[nn.Module] = make(base.__name__, (base,), methods)
    return cls


def _compiled(name: str, text: str, scope: dict[str, Any]) -> Any:
    run_source(text, f"script {name}", scope)
    return scope[name]


def _traced_blocks(grafts: Grafts) -> nn.Module:
    holder = nn.Module()
    for key, block in grafts.items():
        record = grafts.record(key)
        shapes = [feature.shape for feature in (record.feature, record.second) if feature is not None]
        holder.add_module(key, _traced(block, shapes))
    return holder


def _traced(block: nn.Module, shapes: list[Any]) -> Any:
    """Trace a block, and require that the trace does not hold for one size of maps alone."""
    weights = next(block.parameters(), torch.zeros(()))
    inputs = tuple(torch.randn(tuple(shape), device=weights.device).to(weights.dtype) for shape in shapes)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(block, inputs, check_trace=False)  # type: ignore[no-untyped-call]
        larger = tuple(torch.cat((x, x.flip(-1)), -1) if x.ndim == 4 else x for x in inputs)
        _require_close(_tried(block, larger), lambda: traced(*larger), "at another size of maps")
    return traced


def _tried(block: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    try:
        return block(*inputs)
    except Exception:  # a block of one size takes no other
        return None


def _require_close(expected: Any, compute: Any, where: str) -> None:
    if expected is not None and not torch.allclose(compute(), expected, rtol=1e-4, atol=1e-5):
        raise ExportError(f"the trace of a block computes something else {where}", "", "use torch.export instead")


def _require_same(network: nn.Module, scripted: Any) -> None:
    """Run both on an example like the one that the network was operated with, where that is known."""
    expected = expected_of(network)
    if expected is None or expected.example is None or network.training:
        return
    example = map_tensors(expected.example, lambda meta: torch.randn(meta.shape) if meta.is_floating_point() else meta)
    if any(tensor.is_meta for tensor in tensors(example)):
        return
    wanted, got = run_network(network, example), run_network(scripted, example)
    close = [torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in zip(tensors(wanted), tensors(got), strict=True)]
    if not same_bits(wanted, got) and not all(close):
        raise ExportError("TorchScript computes something else of this network", "", "use torch.jit.trace")
