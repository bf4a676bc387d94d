"""Tiny detectors of transformers with random weights: one of each type that is supported."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import nn

hf = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "num_queries": 10,
}
LEVELS = ["stage2", "stage3", "stage4"]


def resnet(config: Any, levels: list[str]) -> Any:
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 1, 1]}
    return config(**sizes, layer_type="basic", out_features=levels)


def detr(kind: str, classes: int, levels: list[str] = LEVELS[2:], **options: Any) -> nn.Module:
    return built(kind, resnet(hf.ResNetConfig, levels), classes, **SIZES | options)


def rt_detr(kind: str, classes: int, **options: Any) -> nn.Module:
    sizes = SIZES | {"encoder_hidden_dim": 32, "encoder_in_channels": [16, 24, 32], "decoder_in_channels": [32] * 3}
    return built(kind, resnet(hf.RTDetrResNetConfig, LEVELS), classes, **sizes, **options)


def vit_detr(kind: str, backbone: Any, classes: int, **options: Any) -> nn.Module:
    """Build LW-DETR or RF-DETR, whose images are multiples of 16 pixels."""
    sizes = {key: value for key, value in SIZES.items() if not key.startswith("encoder")}
    heads = {"decoder_self_attention_heads": 2, "decoder_cross_attention_heads": 2}
    return built(kind, backbone, classes, **sizes | heads | {"group_detr": 2, "c2f_num_blocks": 1} | options)


def built(kind: str, backbone: Any, classes: int, **options: Any) -> nn.Module:
    config = getattr(hf, f"{kind}Config")(backbone_config=backbone, num_labels=classes, **options)
    network: nn.Module = getattr(hf, f"{kind}ForObjectDetection")(config)
    return network


VIT: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 8}


def yolos(classes: int) -> nn.Module:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = hf.YolosConfig(image_size=[64, 96], num_detection_tokens=10, num_labels=classes, **sizes)
    network: nn.Module = hf.YolosForObjectDetection(config)
    return network


def deformable(classes: int) -> nn.Module:
    two_stage = {"two_stage": True, "with_box_refine": True, "two_stage_num_proposals": 10}
    return detr("DeformableDetr", classes, LEVELS, num_feature_levels=3, **two_stage)


def lw_detr(classes: int, **options: Any) -> nn.Module:
    sizes = VIT | {"image_size": 64, "pretrain_image_size": 64, "num_windows": 4, "window_block_indices": [0]}
    backbone = hf.LwDetrViTConfig(**sizes, mlp_ratio=1, out_features=["stage1", "stage2"])
    return vit_detr("LwDetr", backbone, classes, projector_scale_factors=[1.0], **options)


def rf_detr(classes: int, **options: Any) -> nn.Module:
    backbone = hf.RfDetrDinov2Config(
        **VIT, image_size=64, num_windows=2, mlp_ratio=1, out_features=["stage1", "stage2"]
    )
    return vit_detr("RfDetr", backbone, classes, **options)


DETRS: dict[str, Callable[[int], nn.Module]] = {
    "DETR": lambda classes: detr("Detr", classes),
    "Conditional DETR": lambda classes: detr("ConditionalDetr", classes),
    "Deformable DETR": deformable,
    "YOLOS": yolos,
    "RT-DETR": lambda classes: rt_detr("RTDetr", classes),
    "D-FINE": lambda classes: rt_detr("DFine", classes),
}
EVERY = DETRS | {
    "Table Transformer": lambda classes: detr("TableTransformer", classes),
    "DAB-DETR": lambda classes: detr("DabDetr", classes, hidden_size=32),
    "Deformable DETR, one stage": lambda classes: detr("DeformableDetr", classes, LEVELS, num_feature_levels=3),
    "RT-DETRv2": lambda classes: rt_detr("RTDetrV2", classes),
    "DEIMv2": lambda classes: rt_detr("Deimv2", classes),
    "LW-DETR": lw_detr,
    "RF-DETR": rf_detr,
}
