"""Hosts that train: one step with a learning rate of zero, which must leave the output as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .networks import Placements, Tiny

HF = Placements("resnet.encoder.stages.0", "resnet.encoder.stages.0.layers.0.layer.0", "resnet.encoder.stages.1")


@contextmanager
def alone() -> Iterator[None]:
    """Work in a folder of its own, with an Accelerate that nobody has set up."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    try:
        with tempfile.TemporaryDirectory() as path, chdir(path):
            yield
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def still() -> nn.Module:
    """Build a network whose norms keep their statistics in train mode."""
    return _stilled(Tiny())


def _stilled(network: nn.Module) -> nn.Module:
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    return network


def _batches() -> Any:
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=2)


def _lightning(network: nn.Module, **options: Any) -> tuple[Any, Any]:
    import lightning

    class Task(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, net: nn.Module) -> None:
            super().__init__()
            self.net = net

        def training_step(self, batch: list[Tensor], index: int) -> Tensor:
            return F.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.0)

        def forward(self, x: Tensor) -> Any:
            return self.net(x)

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "max_steps": 1}
    trainer = lightning.Trainer(accelerator="cpu", devices=1, **{**quiet, **options})
    task = Task(network)
    trainer.fit(task, _batches())
    return trainer, task


def lightning_fit(network: nn.Module, x: Any) -> Any:
    return _lightning(network, enable_checkpointing=False)[1].eval()


def lightning_sync_batchnorm(network: nn.Module, x: Any) -> Any:
    """Do with the norms what Lightning's `sync_batchnorm=True` does; the training itself needs a GPU."""
    from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm

    return TorchSyncBatchNorm().apply(network)


def lightning_restored(network: nn.Module, x: Any) -> Any:
    """Train, and load the checkpoint into the network built without grafts."""
    from .networks import seeded

    trainer, task = _lightning(network)
    trainer.save_checkpoint("last.ckpt")
    return type(task).load_from_checkpoint("last.ckpt", net=seeded(still), weights_only=False).eval()


def accelerated(network: nn.Module, x: Any) -> Any:
    """Prepare, make a step, and unwrap."""
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True)
    model, optimizer, data = accelerator.prepare(network, torch.optim.SGD(network.parameters(), lr=0.0), _batches())
    for images, labels in data:
        accelerator.backward(F.cross_entropy(model.train()(images), labels))
        optimizer.step()
    return accelerator.unwrap_model(model).eval()


def accelerate_saved(network: nn.Module, x: Any) -> Any:
    """Save with Accelerate and load into the network built without grafts."""
    from accelerate import Accelerator, load_checkpoint_in_model

    from .networks import seeded

    Accelerator(cpu=True).save_model(network, "saved")
    fresh = seeded(still)
    load_checkpoint_in_model(fresh, "saved", strict=True)
    return fresh


def classifier() -> nn.Module:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4)
    return _stilled(ResNetForImageClassification(config))


def logits(network: Any, x: Any) -> Any:
    with torch.no_grad():
        return network(x).logits


def _logits(network: Any) -> Any:
    return lambda x: logits(network, x)


def _without_bars() -> None:
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()


def hf_trained(network: Any, x: Any) -> Any:
    return _logits(_hf_trainer(network).model.eval())


def _hf_trainer(network: Any) -> Any:
    from transformers import Trainer, TrainingArguments

    _without_bars()
    rows = [{"pixel_values": torch.randn(3, 32, 32), "labels": index} for index in range(4)]
    settings = {"learning_rate": 0.0, "max_steps": 1, "use_cpu": True, "report_to": [], "disable_tqdm": True}
    trainer = Trainer(network, TrainingArguments("out", **settings), train_dataset=rows)
    trainer.train()
    return trainer


def hf_saved(network: Any, x: Any) -> Any:
    """Save with `save_pretrained`, in the class the user wrote, and load with `from_pretrained`."""
    from transformers import ResNetForImageClassification

    _without_bars()
    network.save_pretrained("saved")
    return _logits(ResNetForImageClassification.from_pretrained("saved").eval())


def hf_trainer_saved(network: Any, x: Any) -> Any:
    from transformers import AutoModelForImageClassification

    _hf_trainer(network).save_model("saved")
    return _logits(AutoModelForImageClassification.from_pretrained("saved").eval())


def hf_backbone(network: Any, x: Any) -> Any:
    """Take the backbone out of the classifier."""
    return lambda x: network.classifier(network.resnet(x).pooler_output)
