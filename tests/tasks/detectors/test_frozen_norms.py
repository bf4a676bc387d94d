"""A note names timm's backbones whose activations transformers drops with their norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.networks import SourceSpec
from attn_surgeon.tasks.detection_head import fit_detector
from attn_surgeon.tasks.detectors.frozen_norms import lost_activations

from ..cell_detector import RAW
from .tiny_detr import SIZES, built, hf


def detr(backbone: str) -> nn.Module:
    config = hf.TimmBackboneConfig(backbone=backbone, use_pretrained_backbone=False, out_indices=[4])
    return built("Detr", config, 3, **SIZES)


def test_the_activations_of_norms_are_lost_and_the_note_says_so_when_the_head_is_fitted() -> None:
    model = detr("tinynet_e").eval()
    backbone: Any = model.get_submodule("model.backbone.model")
    with torch.no_grad():
        features = backbone.bn1(torch.full((1, backbone.conv_stem.out_channels, 2, 2), -1.0))
    assert float(features.min()) < -0.9  # Swish, which timm's norm computes, is above -0.28
    network = LoadedNetwork(set_provenance(model, Provenance(SourceSpec("object", "detr"), RAW)))
    note, *_ = fit_detector(network, ("a", "b", "c"), 0).notes
    assert note.startswith("transformers froze the norms of tinynet_e without the activations they compute: timm's")


def test_a_note_names_another_epsilon_and_backbones_with_activations_of_their_own_have_none() -> None:
    assert ", and their epsilon is 1e-05 instead of 0.001:" in str(lost_activations(detr("tf_efficientnet_lite0")))
    assert lost_activations(detr("resnet10t")) is None
    assert lost_activations(nn.BatchNorm2d(3)) is None
