"""A small RT-DETR for images of blood cells, with random weights."""

from __future__ import annotations

from typing import Any

from torch import nn


def rt_detr(num_labels: int = 3, width: int = 64, queries: int = 60) -> nn.Module:
    """Build the network: a ResNet of 8 basic blocks, an encoder of one layer and a decoder of two.

    The norms of its backbone train, since random weights have no statistics that could be frozen.
    """
    from transformers import RTDetrConfig, RTDetrForObjectDetection, RTDetrResNetConfig

    widths = [width // 4, width // 2, width, width]
    backbone = RTDetrResNetConfig(
        embedding_size=width // 4,
        hidden_sizes=widths,
        depths=[2, 2, 2, 2],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )
    sizes: dict[str, Any] = {"d_model": width, "encoder_hidden_dim": width, "num_queries": queries}
    sizes |= {f"{part}_attention_heads": 4 for part in ("encoder", "decoder")}
    sizes |= {f"{part}_ffn_dim": 2 * width for part in ("encoder", "decoder")}
    config = RTDetrConfig(
        backbone_config=backbone,
        freeze_backbone_batch_norms=False,
        encoder_in_channels=widths[1:],
        decoder_in_channels=[width] * 3,
        decoder_layers=2,
        num_denoising=30,
        num_labels=num_labels,
        **sizes,
    )
    network: nn.Module = RTDetrForObjectDetection(config)
    return network
