"""What an exported file tells of itself: recipe, preprocessing, class names, certificate."""

from __future__ import annotations

import json

from attn_surgeon import __version__
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.artefact.recipe_of import recipe_of
from attn_surgeon.export.job import Job

PREFIX = "attn_surgeon."


def tell_story(job: Job, path: str | None) -> dict[str, str]:
    """Write what is known of a network as text by key; `path` is the artefact it was read from."""
    artefact = read_artefact(path) if path else None
    certificate = artefact.certificate if artefact else None
    known = job.loaded.preprocessing
    images = {"size": list(known.size)} if known.assumed else known.to_dict()
    told = {
        "recipe": artefact.recipe if artefact else recipe_of(job.loaded.model),
        "preprocessing": {**images, "inside": job.settings.preprocess},
        "class_names": job.loaded.provenance.class_names,
        "certificate": certificate and certificate.to_dict(),
        "grafts_left_out": job.dropped,
    }
    texts = {PREFIX + name: json.dumps(value, ensure_ascii=False) for name, value in told.items() if value is not None}
    return {PREFIX + "version": __version__, **texts}
