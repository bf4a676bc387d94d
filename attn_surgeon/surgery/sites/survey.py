"""The sites of a network: every place where a tensor flows, under a stable name, and the groups they form."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from attn_surgeon.errors import SourceError
from attn_surgeon.surgery import running
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import isolates
from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.observe import Observation, observe
from attn_surgeon.surgery.observe.taint import TaintAnalysis
from attn_surgeon.surgery.sites.example_sizes import other_sizes
from attn_surgeon.surgery.sites.finder import Finder
from attn_surgeon.surgery.sites.groups import Groups, find_groups
from attn_surgeon.surgery.sites.norms_and_activations import followers, is_foldable
from attn_surgeon.surgery.sites.site import Site, Sites
from attn_surgeon.surgery.sites.sites_by_value import SitesByValue

_logger = logging.getLogger(__name__)
__all__ = ["Site", "Survey", "find_sites", "survey"]


@dataclass(frozen=True)
class Survey:
    """The sites of a network, the groups they form, the modules that were not called, and the observed run."""

    sites: Sites
    groups: Groups
    unused: tuple[str, ...]
    observation: Observation

    @cached_property
    def by_name(self) -> Mapping[str, Site]:
        """The sites by name."""
        return {site.name: site for site in self.sites}

    def items(self, name: str) -> list[Site]:
        """Return the sites of the single tensors, where several flow at one place."""
        return [site for site in self.sites if site.name.startswith(f"{name}:")]


@isolates
def find_sites(model: nn.Module, example: running.Example) -> Sites:
    """Return every site of a network, in the order of execution.

    The network is run in eval mode on the example, and on a second image size where it takes one, to tell the spatial
    axes from the channel axis. It is not changed.

    Args:
        model: the network.
        example: one input that the network takes: a tensor, usually (N, C, H, W), a tuple of arguments, or a dict of
            keyword arguments.

    Returns:
        The sites, as a list that is shown as a table. Their names are what `insert` takes.

    Raises:
        ExampleError: the network does not run on the example.
        SourceError: the model is no module, or is scripted.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> sites = attn_surgeon.find_sites(load_demo(), torch.zeros(1, 1, 32, 32))
        >>> stages = [site for site in sites if "stages" in site.groups]
        >>> [(site.name, site.output.shape) for site in stages]
        [('layer1', (1, 16, 32, 32)), ('layer2', (1, 32, 16, 16)), ('layer3', (1, 64, 8, 8))]
    """
    return survey(model, example).sites


def survey(model: nn.Module, example: running.Example) -> Survey:
    """Run a network on its example, and return its sites and the groups they form."""
    first = _observe_first_size(model, example)
    finder = Finder(first, _observe_second_size(model, example))
    sites = list(finder.inside(""))
    groups = _groups(first, finder)
    groups_of: dict[str, list[str]] = {}
    for group, members in groups.items():
        for name in dict.fromkeys(name for name, _ in members):
            groups_of.setdefault(name, []).append(group)
    unused = tuple(path for path, _ in model.named_modules() if path not in first.calls)
    followers_of = followers(first, finder.outputs)
    parameters, grafts = _parameters(model), _grafts(model)
    sites = Sites(
        replace(
            site,
            groups=tuple(groups_of.get(site.name, ())),
            feeds=followers_of.get(site.name, ()),
            folds=site.name in first.calls and is_foldable(first.module(site.name)),
            parameters=sum(parameters.get(site.name, {}).values()),
            grafts=tuple(grafts.get(site.name, ())),
        )
        for site in sites
    )
    return Survey(sites, groups, unused, first)


def _parameters(model: nn.Module) -> Mapping[str, Mapping[int, int]]:
    """Return the sizes of each module's parameters, by path and identity, in one pass: shared ones count once."""
    found: dict[str, dict[int, int]] = {}
    for path, parameter in model.named_parameters(remove_duplicate=False):
        while path := path.rpartition(".")[0]:
            found.setdefault(path, {})[id(parameter)] = parameter.numel()
    return found


def _grafts(model: nn.Module) -> Mapping[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in list_grafts(model):
        found.setdefault(item.graft.site, []).append(f"{item.graft.block['name']} {item.graft.side}")
    return found


def _groups(seen: Observation, finder: Finder) -> Groups:
    flow = Dataflow(seen)
    by_value = SitesByValue(flow, finder)
    prefixes = {number: feature.prefix for number, feature in by_value.maps.items()}
    return find_groups(flow, by_value, TaintAnalysis(flow, prefixes))


def _observe_first_size(model: nn.Module, example: running.Example) -> Observation:
    if not isinstance(model, nn.Module) or type(model).__module__.startswith("torch.jit"):
        what = f"a {type(model).__name__} cannot be operated on"
        raise SourceError(what, "", "give the torch.nn.Module itself, before it is scripted")
    try:
        return observe(model, example)
    except Exception as error:
        raise running.example_error(error, example) from error


def _observe_second_size(model: nn.Module, example: running.Example) -> Observation | None:
    for smaller in other_sizes(example):
        try:
            return observe(model, smaller)
        except Exception:  # a network that takes one size may raise anything
            continue
    _logger.info("the network takes one image size only: layouts are inferred from one run")
    return None
