"""What a set gains over its controls by how far the images are from the network's, and how many there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.networks.preprocessing import PreprocessingOverrides
from tests.benchmarks import cifar

from .arms import AND_NORMS, WIDE
from .domains import DOMAINS, folder
from .lines import Lines
from .sets import Sets
from .transfers import FROZEN, Transfer

IMAGES = (50, 500, 2500)
LEAST_STEPS, EPOCHS, BATCH = 100, 3, 64
HEAD, NORMS, BOTH = WORTH_ARMS = ("head", f"head{AND_NORMS}", f"scout, more sites{AND_NORMS}")


@dataclass(frozen=True)
class Worth:
    """All settings of the study; `lines` is where results are kept."""

    lines: Lines

    def sets(self, domain: str, images: int) -> Sets:
        """Return the arms of a domain with so many training images."""
        batch = min(BATCH, images // 2)
        epochs = max(EPOCHS, -(-LEAST_STEPS // (images // batch)))
        settings = replace(FROZEN, epochs=epochs, batch_size=batch)
        transfer = Transfer(partial(resnet20, DOMAINS[domain][2]), partial(folder, domain, images), settings)
        return Sets(transfer, settings, self.lines, prefix=f"{domain}, {images} ")

    def run(self, seed: int) -> None:
        """Train all arms with a seed."""
        for images in IMAGES:
            for domain in DOMAINS:
                sets = self.sets(domain, images)
                for arm in WORTH_ARMS:
                    sets.run(arm, seed)
                sets.try_out(WIDE)


def resnet20(side: int) -> LoadedNetwork:
    """Return the network with its published weights, for images of another size."""
    images = PreprocessingOverrides((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (side, side))
    source = f"{cifar.REPO / 'examples' / 'cifar_resnet.py'}:resnet20"
    return open_network(source, weights=str(cifar.DATA / "resnet20-12fca82f.th"), images=images)
