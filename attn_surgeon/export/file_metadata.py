"""The metadata of exported files: recipe, preprocessing, class names, certificate, version."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from attn_surgeon import __version__
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.artefact.recipe_from_network import recipe_of
from attn_surgeon.export.prepared import PreparedNetwork

PREFIX = "attn_surgeon."


def build_metadata(prepared: PreparedNetwork, artefact: str | None) -> dict[str, str]:
    """Return the metadata of a network as JSON texts by key.

    Args:
        prepared: the network as it is exported.
        artefact: the file that it was read from, if any.
    """
    read = read_artefact(artefact) if artefact else None
    certificate = read.certificate if read else None
    values = {
        "recipe": read.recipe if read else recipe_of(prepared.network.model),
        "preprocessing": input_format(prepared),
        "class_names": prepared.network.provenance.class_names,
        "certificate": certificate and certificate.to_dict(),
        "grafts_left_out": prepared.dropped,
    }
    texts = {PREFIX + key: json.dumps(value, ensure_ascii=False) for key, value in values.items() if value is not None}
    return {PREFIX + "version": __version__, **texts}


def input_format(prepared: PreparedNetwork) -> dict[str, Any]:
    """Return the format of the file's input as JSON values.

    Where `inside` is true, the file takes uint8 pixels and normalises them. Otherwise pixels must be scaled to `range`,
    `mean` subtracted and the result divided by `std`, per channel; both are missing where they are unknown.
    """
    preprocessing = prepared.network.preprocessing
    images = {"size": list(preprocessing.size)} if preprocessing.assumed else preprocessing.to_dict()
    if prepared.settings.preprocess:
        return {**images, "inside": True, "dtype": "uint8", "layout": "NHWC", "range": [0, 255]}
    return {**images, "inside": False, "dtype": "float32", "layout": "NCHW", "range": [0, 1]}


def describe_input(images: Mapping[str, Any]) -> str:
    """Return the format of a file's input as a sentence.

    >>> describe_input({"size": [224, 224], "inside": True, "dtype": "uint8", "layout": "NHWC", "range": [0, 255]})
    'input: uint8 NHWC images of 224×224 pixels, values 0 to 255; the normalisation is inside the file'
    """
    height, width = images["size"]
    low, high = images["range"]
    start = f"input: {images['dtype']} {images['layout']} images of {height}×{width} pixels, values {low} to {high}"
    if images["inside"]:
        return f"{start}; the normalisation is inside the file"
    if "mean" not in images:
        return f"{start}, normalised by an unknown mean and std"
    mean, std = (", ".join(f"{value:g}" for value in images[name]) for name in ("mean", "std"))
    return f"{start}, then normalised by mean ({mean}) and std ({std})"
