"""Prepare a network with grafts for `torch.jit.script`: a copy whose forwards TorchScript can compile.

`torch.jit.script` compiles what `__prepare_scriptable__` of a module returns. That is a copy in which the generated
methods are plain source, and each block is a trace.
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
from attn_surgeon.surgery.rewrite.expected_grafts import expected_of
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of, original_children
from attn_surgeon.surgery.rewrite.operated_class import run_source
from attn_surgeon.surgery.rewrite.operated_modules import GUARD, code_of, original_class
from attn_surgeon.surgery.running import map_tensors, run_network, same_bits, tensors

# The guards in generated source, which TorchScript cannot compile.
_GUARDS = re.compile(rf"^    (\w+ = \S*_require\w*\(.*|{GUARD}\(self\))\n", re.MULTILINE)


@isolates
def prepare_scriptable(network: nn.Module) -> nn.Module:
    """Return the network that `torch.jit.script` compiles in place of one with grafts.

    Raises ExportError where TorchScript cannot compile it, or the compiled network returns another output.
    """
    if expected_of(network) is None:
        what = f"torch.jit.script compiles no part of a network with attn_surgeon's grafts, such as a {_name(network)}"
        raise ExportError(what, "", "script the network that the blocks were inserted into, or use torch.jit.trace")
    try:
        scriptable = _scriptable(network, {})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scripted = torch.jit.script(scriptable)
        _require_same(network, scripted)
        _reuse_compiled(scriptable, scripted)
    except ExportError:
        raise
    except Exception as error:
        what = f"torch.jit.script does not compile the {_name(network)} with attn_surgeon's grafts: {first_line(error)}"
        raise ExportError(what[:300], "", "use torch.jit.trace or torch.export instead") from error
    return scriptable


def _reuse_compiled(scriptable: nn.Module, scripted: Any) -> None:
    """Replace the children by the compiled ones, because the caller compiles the network again."""
    children = scriptable._modules
    children.update({name: child for name, child in scripted._modules.items() if children[name] is not None})


def _name(module: nn.Module) -> str:
    return original_class(module).__name__


def _scriptable(module: nn.Module, copies: dict[int, nn.Module]) -> nn.Module:
    """Return a copy of the structure of a network, of scriptable classes, that shares its parameters."""
    if isinstance(module, torch.jit.ScriptModule):
        return module
    if id(module) not in copies:
        grafts = grafts_of(module)
        cls = original_class(module) if grafts is None else _scriptable_class(module)
        new: Any = object.__new__(cls)
        copies[id(module)] = new
        vars(new).update({name: item for name, item in vars(module).items() if not name.startswith("_attn_surgeon")})
        children = original_children(module).items()
        vars(new)["_modules"] = {name: child and _scriptable(child, copies) for name, child in children}
        if grafts is not None:
            new._modules[RESERVED] = _traced_blocks(grafts)
    return copies[id(module)]


def _scriptable_class(module: nn.Module) -> type[nn.Module]:
    """Build a class like that of an operated module, with the source of the mode that the module is in."""
    base, code = original_class(module), code_of(module)
    if vars(module).get("forward") is not None:
        raise ExportError(f"the forward of a {base.__name__} was replaced on the object", "", "use torch.jit.trace")
    sources = dict(code.sources)
    for method in list(sources):
        for_mode = sources.get(f"_{method.strip('_')}_{'train' if module.training else 'eval'}")
        if for_mode is not None:
            sources[method] = re.sub(r"^def \w+\(", f"def {method}(", for_mode, count=1)
    sources["forward"] = sources.get("forward", "").replace("_original.forward(self, ", "self._own_forward(")
    methods = {name: _compiled(name, _GUARDS.sub("", text), dict(code.names)) for name, text in sources.items() if text}
    if "_own_forward(" in sources["forward"]:  # TorchScript names a method after the `def` in its source
        source = textwrap.dedent(inspect.getsource(base.forward)).replace("def forward(", "def _own_forward(", 1)
        methods["_own_forward"] = _compiled("_own_forward", source, dict(base.forward.__globals__))
    metaclass: Any = type(base)
    cls: type[nn.Module] = metaclass(base.__name__, (base,), methods)
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
    """Return the trace of a block; raise ExportError where it is not valid for other sizes of maps."""
    weights = next(block.parameters(), torch.zeros(()))
    inputs = tuple(torch.randn(tuple(shape), device=weights.device).to(weights.dtype) for shape in shapes)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(block, inputs, check_trace=False)  # type: ignore[no-untyped-call]
        larger = tuple(torch.cat((x, x.flip(-1)), -1) if x.ndim == 4 else x for x in inputs)
        expected = _output_or_none(block, larger)
        if expected is not None and not torch.allclose(traced(*larger), expected, rtol=1e-4, atol=1e-5):
            what = "the trace of a block returns another output at another size of maps"
            raise ExportError(what, "", "use torch.export instead")
    return traced


def _output_or_none(block: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    try:
        return block(*inputs)
    except Exception:  # a block for one size raises for any other
        return None


def _require_same(network: nn.Module, scripted: Any) -> None:
    """Raise ExportError where the outputs differ on an input like the recorded example; in eval mode only."""
    expected = expected_of(network)
    if expected is None or expected.example is None or network.training:
        return
    example = map_tensors(expected.example, lambda meta: torch.randn(meta.shape) if meta.is_floating_point() else meta)
    if any(tensor.is_meta for tensor in tensors(example)):
        return
    outputs, scripted_outputs = run_network(network, example), run_network(scripted, example)
    pairs = zip(tensors(outputs), tensors(scripted_outputs), strict=True)
    close = [torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs]
    if not same_bits(outputs, scripted_outputs) and not all(close):
        raise ExportError("the scripted network returns another output", "", "use torch.jit.trace")
