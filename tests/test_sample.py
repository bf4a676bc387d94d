"""A fixed sample of the sweep: networks of unlike families, each operated on in every group and undone."""

from __future__ import annotations

import pytest

from tests.sweep.exclusions import EXCLUSIONS
from tests.sweep.row import LIBRARIES, Settings, shortfalls, sweep_one
from tests.sweep.sample import SAMPLE

# a sixth of the sample is run every time, without those that take longest
LONG = ("mc3_18", "beit_base_patch16_224", "maxvit_pico_rw_256", "hiera_tiny_224", "deit_tiny_distilled_patch16_224")
OFTEN = [item for item in SAMPLE[::6] if item[1] not in LONG]
NETWORKS = [item if item in OFTEN else pytest.param(*item, marks=pytest.mark.slow) for item in SAMPLE]


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("library", "name"), NETWORKS)
def test_network_passes_the_sweep(library: str, name: str) -> None:
    row = sweep_one(library, name, Settings())
    assert shortfalls(row) == []


def test_sample_is_sixty_networks_that_are_in_scope() -> None:
    assert len(set(SAMPLE)) == 60
    assert all(name in LIBRARIES[library].names() for library, name in SAMPLE)
    assert not any(LIBRARIES[library].out_of_scope(name) for library, name in SAMPLE)
    assert not EXCLUSIONS.keys() & {f"{library}/{name}" for library, name in SAMPLE}


def test_exclusions_are_few_and_have_reasons() -> None:
    names = {f"{library}/{name}" for library, networks in LIBRARIES.items() for name in networks.names()}
    assert set(EXCLUSIONS) <= names
    assert all(EXCLUSIONS.values())
    assert len(EXCLUSIONS) <= len(names) / 100
