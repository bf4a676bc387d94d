"""Images with masks: what their values mean, and what is said where they mean nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attn_surgeon.data.mask_pairs import is_masked, readable_pairs
from attn_surgeon.data.masks import IGNORED, Labelling, labelling, read_pixels
from attn_surgeon.errors import DataError
from attn_surgeon.finetune.job import open_job
from attn_surgeon.finetune.settings import FinetuneSettings

from .cells import loaded, write


def labels(root: Path, names: tuple[str, ...] | None = None, ignore: int | None = None) -> Labelling:
    return labelling(readable_pairs(root / "train"), names, ignore)


def test_images_and_masks_are_paired_by_name(tmp_path: Path) -> None:
    root = write(tmp_path)
    for kind in ("images", "masks"):
        (root / "train" / kind / "sub").mkdir()
        (root / "train" / kind / "0.png").rename(root / "train" / kind / "sub" / "0.png")
    image = root / "train" / "images"
    Image.open(image / "1.png").save(image / "1.bmp")
    (image / "1.png").unlink()
    (image / ".hidden.png").write_text("")
    pairs = readable_pairs(root / "train")
    found = [(p.image.relative_to(image).as_posix(), p.mask.parent.name, p.mask.name) for p in pairs]
    assert found == [
        ("1.bmp", "masks", "1.png"),
        ("2.png", "masks", "2.png"),
        ("3.png", "masks", "3.png"),
        ("sub/0.png", "sub", "0.png"),
    ]
    assert pairs[0].size == (24, 20)
    assert pairs[0].values == frozenset(np.unique(np.asarray(Image.open(pairs[0].mask))).tolist())


def test_what_has_no_partner_another_size_or_colours_is_named(tmp_path: Path) -> None:
    root = write(tmp_path) / "train"
    mask = root / "masks" / "2.png"
    kept = mask.read_bytes()
    mask.unlink()
    with pytest.raises(DataError, match=r"has no mask; .*images/2\.png"):
        readable_pairs(root)
    Image.new("L", (24, 20)).save(mask)
    with pytest.raises(DataError, match=r"the mask has 20×24 pixels, its image 24×20; .*masks/2\.png"):
        readable_pairs(root)
    Image.effect_noise((20, 24), 50).convert("RGB").save(mask)
    assert len(readable_pairs(root)) == 4  # all channels alike: grey, however it is stored
    Image.new("RGB", (20, 24), (1, 2, 3)).save(mask)
    with pytest.raises(DataError, match=r"got a colour image \(RGB\); .*masks/2\.png"):
        readable_pairs(root)
    mask.write_bytes(kept)
    (root / "images" / "3.png").unlink()
    with pytest.raises(DataError, match=r"has no image; .*masks/3\.png"):
        readable_pairs(root)
    Image.new("RGB", (20, 24)).save(root / "images" / "1.jpg")
    with pytest.raises(DataError, match=r"two files have the same name, 1\.jpg and 1\.png"):
        readable_pairs(root)
    with pytest.raises(DataError, match="there is no images/"):
        readable_pairs(tmp_path / "val" / "masks")


def test_values_are_class_indices_and_255_is_the_ignore_index(tmp_path: Path) -> None:
    def some_unknown(mask: np.ndarray) -> np.ndarray:
        return np.where(np.indices(mask.shape)[0] < 4, 255, mask).astype(np.uint8)

    found = labels(write(tmp_path, stored=some_unknown))
    assert found == Labelling(("0", "1", "2"), 255)
    assert found.numbered(np.array([[0, 2], [255, 1]])).tolist() == [[0, 2], [IGNORED, 1]]


def test_masks_of_0_and_255_alone_show_one_class_over_background(tmp_path: Path) -> None:
    root = write(tmp_path, classes=2, stored=lambda mask: mask * 255)
    found = labels(root)
    assert found.names == ("background", "foreground")
    assert found.numbered(np.array([[0, 255]])).tolist() == [[0, 1]]
    assert labels(root, ("sky", "cell")).names == ("sky", "cell")
    three = labels(root, ("a", "b", "c"))  # of three classes, 255 says nothing
    assert three.numbered(np.array([[0, 255]])).tolist() == [[0, IGNORED]]
    with pytest.raises(DataError, match="2 to 255 classes, got 1"):
        labels(root, ignore=255)


def test_another_value_may_be_the_ignore_index(tmp_path: Path) -> None:
    root = write(tmp_path, classes=2, stored=lambda mask: np.where(np.indices(mask.shape)[0] < 4, 128, mask * 255))
    with pytest.raises(DataError, match="has the value 128"):
        labels(root, ("a", "b"))
    found = labels(root, ignore=128)
    assert found.numbered(np.array([[0, 128, 255]])).tolist() == [[0, IGNORED, 1]]
    void = labels(write(tmp_path / "void"), ignore=0)
    assert void.numbered(np.array([[0, 1, 2]])).tolist() == [[IGNORED, 1, 2]]


def test_a_value_that_means_nothing_is_named_with_its_file(tmp_path: Path) -> None:
    root = write(tmp_path)
    with pytest.raises(DataError, match=r"a mask for 2 classes has the value 2; .*masks/\d\.png; .*ignore_index=2"):
        labels(root, ("a", "b"))


def test_palettes_bits_and_sixteen_bits_are_read_as_they_are(tmp_path: Path) -> None:
    mask = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    mask.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    root = tmp_path / "p"
    for kind in ("images", "masks"):
        (root / kind).mkdir(parents=True)
    deep = np.array([[0, 65535], [256, 25600]], np.uint16)
    Image.fromarray(deep).save(root / "images" / "a.png")
    mask.save(root / "masks" / "a.png")
    assert readable_pairs(root)[0].values == {0, 1, 2}
    assert read_pixels(root / "images" / "a.png", 1).tolist() == [[[0, 255], [1, 100]]]
    Image.fromarray(np.array([[True, False], [False, False]])).save(root / "masks" / "a.png")
    assert readable_pairs(root)[0].values == {0, 1}
    with pytest.raises(DataError, match="the network takes 4"):
        read_pixels(root / "images" / "a.png", 4)


def test_grey_and_colour_files_serve_either_network(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(np.array([[10, 200]], np.uint8)).save(path)
    assert torch.equal(read_pixels(path, 3), torch.tensor([[[10, 200]]] * 3))


def test_a_classifier_is_not_trained_on_masks(tmp_path: Path) -> None:
    root = write(tmp_path)
    assert is_masked(str(root))
    assert is_masked(str(root / "train"))
    assert not is_masked(str(root / "train" / "images"))
    with pytest.raises(DataError, match="task=segmentation"):
        open_job(loaded(), str(root), FinetuneSettings())
