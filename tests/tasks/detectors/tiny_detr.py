"""Tiny detectors of transformers with random weights, one of each way to score and to count classes."""

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


def detr(network: Any, config: Any, classes: int, levels: list[str] = LEVELS[2:], **options: Any) -> nn.Module:
    backbone = resnet(hf.ResNetConfig, levels)
    built: nn.Module = network(config(backbone_config=backbone, num_labels=classes, **SIZES, **options))
    return built


def rt_detr(network: Any, config: Any, classes: int, **options: Any) -> nn.Module:
    sizes = SIZES | {"encoder_hidden_dim": 32, "encoder_in_channels": [16, 24, 32], "decoder_in_channels": [32] * 3}
    backbone = resnet(hf.RTDetrResNetConfig, LEVELS)
    built: nn.Module = network(config(backbone_config=backbone, num_labels=classes, **sizes, **options))
    return built


def yolos(classes: int) -> nn.Module:
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    config = hf.YolosConfig(image_size=[64, 96], num_detection_tokens=10, num_labels=classes, **sizes)
    built: nn.Module = hf.YolosForObjectDetection(config)
    return built


def deformable(classes: int) -> nn.Module:
    two_stage = {"two_stage": True, "with_box_refine": True, "two_stage_num_proposals": 10}
    kinds = hf.DeformableDetrForObjectDetection, hf.DeformableDetrConfig
    return detr(*kinds, classes, LEVELS, num_feature_levels=3, **two_stage)


DETRS: dict[str, Callable[[int], nn.Module]] = {
    "DETR": lambda classes: detr(hf.DetrForObjectDetection, hf.DetrConfig, classes),
    "Conditional DETR": lambda classes: detr(hf.ConditionalDetrForObjectDetection, hf.ConditionalDetrConfig, classes),
    "Deformable DETR": deformable,
    "YOLOS": yolos,
    "RT-DETR": lambda classes: rt_detr(hf.RTDetrForObjectDetection, hf.RTDetrConfig, classes),
    "D-FINE": lambda classes: rt_detr(hf.DFineForObjectDetection, hf.DFineConfig, classes),
}
