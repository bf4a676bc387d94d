"""All hosts, one line each."""

from __future__ import annotations

from . import copies, rebuilt
from .host import Host
from .networks import NORMS

HOSTS = (
    Host("copy.deepcopy", "copies", copies.deepcopied),
    Host("pickle", "copies", copies.pickled),
    Host("torch.save of the model", "copies", copies.torch_saved),
    Host("SyncBatchNorm.convert_sync_batchnorm", "rebuilt", rebuilt.sync_batchnorm, placements=NORMS),
)
