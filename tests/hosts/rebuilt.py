"""Hosts that put other modules, weights or classes in the place of a network's own."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, parametrizations, parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from .networks import Residual, Tiny


def sync_batchnorm(network: nn.Module, x: Any) -> Any:
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
    return converted


def timm_sync_batchnorm(network: nn.Module, x: Any) -> Any:
    from timm.layers import convert_sync_batchnorm

    return convert_sync_batchnorm(network)


def frozen_batchnorm(network: nn.Module, x: Any) -> Any:
    """Put torchvision's frozen norms in, as detection code does with backbones."""
    from torchvision.ops import FrozenBatchNorm2d

    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            frozen = FrozenBatchNorm2d(child.num_features)
            frozen.load_state_dict(child.state_dict(), strict=False)
            setattr(network, name, frozen)
        else:
            frozen_batchnorm(child, x)
    return network


def timm_frozen_batchnorm(network: nn.Module, x: Any) -> Any:
    from timm.layers import freeze_batch_norm_2d

    return freeze_batch_norm_2d(network)


def conv_bn_fused(network: nn.Module, x: Any) -> Any:
    """Fuse each norm into the convolution before it and leave an Identity, as OpenMMLab's `fuse_conv_bn` does."""
    last = ""
    for name, child in list(network.named_children()):
        if isinstance(child, nn.BatchNorm2d) and last:
            network._modules[last] = fuse_conv_bn_eval(network.get_submodule(last), child)  # type: ignore[type-var]
            network._modules[name] = nn.Identity()
            last = ""
        elif isinstance(child, nn.Conv2d):
            last = name
        else:
            conv_bn_fused(child, x)
    return network


def fx_fused(network: nn.Module, x: Any) -> Any:
    from torch.fx.experimental.optimization import fuse

    return fuse(network)


def reparameterized(network: nn.Module, x: Any) -> Any:
    from timm.utils import reparameterize_model

    return reparameterize_model(network, inplace=True)


def replaced_batchnorm(network: Any, x: Any) -> Any:
    """Put what `fuse()` gives in a child's place, as the code of LeViT, EfficientFormer and RepViT does."""
    for name, child in list(network.named_children()):
        if hasattr(child, "fuse"):
            setattr(network, name, child.fuse())
        elif isinstance(child, nn.BatchNorm2d):
            setattr(network, name, nn.Identity())
        else:
            replaced_batchnorm(child, x)
    return network


def deployed(network: Any, x: Any) -> Any:
    for module in list(network.modules()):
        if hasattr(module, "switch_to_deploy"):
            module.switch_to_deploy()
    return network


def _own_convolutions(network: nn.Module) -> Iterator[nn.Conv2d]:
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.Conv2d) and "attn_surgeon" not in name:
            yield module


def parametrized(network: nn.Module, x: Any) -> Any:
    for module in list(network.modules()):
        if isinstance(getattr(module, "weight", None), nn.Parameter):
            parametrize.register_parametrization(module, "weight", nn.Identity())
    return network


def unparametrized(network: nn.Module, x: Any) -> Any:
    parametrized(network, x)
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            parametrize.remove_parametrizations(module, "weight")
    return network


def weight_norm(network: nn.Module, x: Any) -> Any:
    for module in _own_convolutions(network):
        parametrizations.weight_norm(module)
    return network


def legacy_weight_norm(network: nn.Module, x: Any) -> Any:
    for module in _own_convolutions(network):
        old_weight_norm(module)
    return network


def spectral_norm(network: nn.Module, x: Any) -> Any:
    for module in _own_convolutions(network):
        parametrizations.spectral_norm(module, n_power_iterations=1)
    return network


def legacy_spectral_norm(network: Any, x: Any) -> Any:
    for module in _own_convolutions(network):
        old_spectral_norm(module)
        for hook in list(module._forward_pre_hooks.values()):
            hook(module.train(), ())
        module.eval()
    return network


def pruned(network: nn.Module, x: Any) -> Any:
    for module in _own_convolutions(network):
        prune.custom_from_mask(module, "weight", module.weight != 0)  # type: ignore[no-untyped-call]
    return network


def pruned_for_good(network: nn.Module, x: Any) -> Any:
    for module in _own_convolutions(pruned(network, x)):
        prune.remove(module, "weight")  # type: ignore[no-untyped-call]
    return network


class _Another(nn.Module):
    """A class of someone else's, with the same children."""

    forward = Residual.forward
    act: nn.Module
    bn1: nn.Module
    conv1: nn.Module
    conv2: nn.Module
    bn2: nn.Module


def subclassed(network: nn.Module, x: Any) -> Any:
    """Give each module a subclass of its class as it is now, as parametrize and FSDP do."""
    for module in list(network.modules()):
        module.__class__ = type(type(module).__name__, (type(module),), {})
    return network


def class_swapped(network: nn.Module, x: Any) -> Any:
    """Give modules a subclass of the class they were written in."""
    for module in list(network.modules()):
        for base in (nn.Conv2d, nn.BatchNorm2d, Residual, nn.Sequential):
            if isinstance(module, base):
                module.__class__ = types.new_class(base.__name__, (base,))
    return network


def class_replaced(network: nn.Module, x: Any) -> Any:
    """Give modules another class that computes the same."""
    for module in list(network.modules()):
        if isinstance(module, Residual):
            module.__class__ = _Another  # type: ignore[assignment]
    return network


def normed() -> nn.Module:
    """Build a network whose convolutions have singular values of one, so that spectral norm leaves them as they are."""
    model = Tiny()
    for module in _own_convolutions(model):
        nn.init.orthogonal_(module.weight)
    return model
