"""Load operated networks from artefacts, and the original networks they were made from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from attn_surgeon.artefact.metadata import Artefact, read_artefact
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.artefact.storage import damaged, read_artefact_tensors
from attn_surgeon.artefact.tensors import hash_tensors, split_tensors
from attn_surgeon.artefact.trust import require_blocks, trusted_source
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import ArtefactError, option
from attn_surgeon.networks import build_network, load_source
from attn_surgeon.operations.block_fitting import build_blocks
from attn_surgeon.surgery.edit import perform, take_out
from attn_surgeon.surgery.isolation import copied, isolates
from attn_surgeon.surgery.plan import UnfitError
from attn_surgeon.surgery.rewrite.binding import UntraceableError, helper_methods
from attn_surgeon.surgery.rewrite.grafts import RESERVED
from attn_surgeon.surgery.rewrite.operated_modules import original_class
from attn_surgeon.user_code import one_line

_OTHER_SOURCE = f"name the network it was made from with {option('source', 'FACTORY')}"
_OTHER_MODEL = f"pass the network it was made from with {option('model', 'NETWORK')}"

# what torch and Python raise for grafts of another network, or of sizes that do not fit in memory
_MISFITS = (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError)


@isolates
def load(
    path: str | Path,
    *,
    source: str | None = None,
    model: nn.Module | None = None,
    weights: str | None = None,
    trust: bool = False,
) -> nn.Module:
    """Load an operated network in eval mode.

    Code that an artefact names is not run unless `trust` is set. Networks of timm, torchvision and the demo are rebuilt
    from the artefact; name your own network again with `source`, or pass it as `model`.

    Args:
        path: an artefact or a patch.
        source: your own network that the artefact was made from: `file.py:factory` or `package.module:factory`.
        model: the network that the artefact was made from, without grafts. It is not changed.
        weights: the file with the weights of a patch's base, if it has moved; `default` for the pretrained ones.
        trust: run the code that the artefact names: the factories of its network and its blocks.

    Returns:
        The network, with the same tensors bit for bit.

    Raises:
        ArtefactError: if the file is not an artefact, is damaged, or does not fit the network.
        BlockError: if it has a block of your own that is not registered.
        SourceError: if its network cannot be built.

    >>> import tempfile, torch, attn_surgeon
    >>> from attn_surgeon.networks.demo import load_demo
    >>> x = torch.randn(1, 1, 32, 32)
    >>> model = attn_surgeon.insert(load_demo(), "se", after="layer2", example=x)
    >>> folder = tempfile.TemporaryDirectory()
    >>> attn_surgeon.save(model, f"{folder.name}/patch.safetensors", patch=True)
    >>> again = attn_surgeon.load(f"{folder.name}/patch.safetensors", model=load_demo())
    >>> [graft.graft.site for graft in attn_surgeon.list_grafts(again)]
    ['layer2']
    >>> folder.cleanup()
    """
    artefact = read_artefact(path)
    require_blocks((BlockSpec(**graft.block) for _, graft in artefact.grafts), trust=trust)
    base = load_base(artefact, source=source, model=model, weights=weights, trust=trust)
    base_tensors, grafts = _read_split(artefact)
    if hash_tensors(grafts) != artefact.grafts_sha256:
        raise damaged(artefact.path, "the grafts' tensors do not match their checksum")
    hint = _OTHER_SOURCE if model is None else _OTHER_MODEL
    if not artefact.patch:
        _fill_base(base, base_tensors, artefact, hint)
    _insert_grafts(base, artefact, hint)
    _fill(base, grafts, artefact, hint, strict=False)
    return set_provenance(base, artefact.provenance).eval()


def load_original(
    path: str | Path, *, source: str | None = None, weights: str | None = None, trust: bool = False
) -> nn.Module:
    """Load the network an artefact was made from, rebuilt without grafts, in eval mode."""
    artefact = read_artefact(path)
    base = load_base(artefact, source=source, weights=weights, trust=trust)
    if not artefact.patch:
        _fill_base(base, _read_split(artefact)[0], artefact, _OTHER_SOURCE)
    return base.eval()


def load_base(
    artefact: Artefact,
    *,
    source: str | None = None,
    model: nn.Module | None = None,
    weights: str | None = None,
    trust: bool = False,
) -> nn.Module:
    """Build the network an artefact was made from, without grafts; its weights are loaded only for a patch."""
    if model is not None:
        base = copied(model)
    else:
        spec = trusted_source(artefact.provenance, source, artefact.path, trust=trust)
        base = load_source(spec, weights=weights).model if artefact.patch else build_network(spec)
        take_out(base, lambda graft: True)  # a checkpoint may have had some already, which the artefact has too
    if artefact.patch and hash_tensors(split_tensors(base)[0]) != artefact.base_sha256:
        what = "the patch does not fit this base: its weights differ"
        hint = _OTHER_MODEL if model is not None else f"name the weights it was made for: {option('weights', 'FILE')}"
        raise ArtefactError(what, str(artefact.path), hint)
    return base


def _read_split(artefact: Artefact) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the tensors of the base and those of the grafts."""
    tensors = read_artefact_tensors(artefact.path)
    prefixes = tuple(f"{graft.placement.owner}.{RESERVED}.{key}.".removeprefix(".") for key, graft in artefact.grafts)
    grafts = {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}
    return {name: tensor for name, tensor in tensors.items() if name not in grafts}, grafts


def _fill_base(base: nn.Module, tensors: dict[str, Tensor], artefact: Artefact, hint: str) -> None:
    if hash_tensors(tensors) != artefact.base_sha256:
        raise damaged(artefact.path, "the base's tensors do not match their checksum")
    _fill(base, tensors, artefact, hint, strict=True)


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], artefact: Artefact, hint: str, *, strict: bool) -> None:
    state = model.state_dict()
    wrong = [name for name, tensor in tensors.items() if name not in state or state[name].shape != tensor.shape]
    missing = [name for name in state if name not in tensors] if strict else []
    if wrong or missing:
        what = f"its tensors do not fit the network: {', '.join((wrong + missing)[:3])}"
        raise ArtefactError(what, str(artefact.path), hint)
    for name, parameter in (*model.named_parameters(), *model.named_buffers()):
        if name in tensors and parameter.dtype != tensors[name].dtype:
            parameter.data = parameter.data.to(tensors[name].dtype)
    model.load_state_dict(dict(tensors), strict=False)


def _insert_grafts(base: nn.Module, artefact: Artefact, hint: str) -> None:
    """Insert an artefact's grafts, freshly initialised, into its base; raise ArtefactError if they do not fit."""
    keys = [key for key, _ in artefact.grafts]
    grafts = [graft for _, graft in artefact.grafts]
    try:
        for graft in grafts:
            _require_own_method(base.get_submodule(graft.placement.owner), graft.placement.method)
        perform(base, grafts, build_blocks(base, grafts, seed=0), keys)
    except (UnfitError, UntraceableError, *_MISFITS) as error:
        what = f"its grafts do not fit the network: {one_line(error)}"
        raise ArtefactError(what, str(artefact.path), hint) from None


def _require_own_method(owner: nn.Module, method: str) -> None:
    """Raise UnfitError unless the owner's class defines the method: torch's own methods do more than compute."""
    if method != "forward" and method not in helper_methods(original_class(owner)):
        raise UnfitError(f"{type(owner).__name__} has no method {method} to rewrite")
