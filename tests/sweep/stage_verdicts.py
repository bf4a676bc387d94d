"""Why timm's features and the `stages` group name different maps, by family and kind of disagreement."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatch

OPEN = "no verdict"
Level = tuple[int, int, str]  # stride, channels, name

_STEM = "timm names no features of the stem, which downsamples too"
_LAST = "timm's last feature there comes before the layers that end the network at that stride"
_EARLIER = "timm names an earlier stage there, `stages` the last one before the downsampling"
_INSIDE = "timm names a map inside the block that downsamples, `stages` what that block was given"
_ATTENDS = "the block that downsamples attends before it pools, and has no shortcut: `stages` names what it pools"
_PARALLEL = "paths run side by side: there is no one map that all of them pass through before the downsampling"
_EXTRA = "timm names maps of modules that its feature network has and the classifier has not or uses otherwise"
_AFTER = "timm names no features of what merges tokens after the blocks"
_NOTHING = "timm's feature has no module: it stands for the image with its pixels moved into channels"

# (kind, patterns of families or names, reason)
VERDICTS = (
    (
        "stem",
        "convnext cpubone efficientformer efficientformer_v2 efficientvim efficientvit_mit efficientvit_msra fastvit "
        "gcvit hgnet iformer lcnetv2 levit lowformer mambaout nextvit repvit shvit starnet swiftformer tiny_vit tnt "
        "vision_transformer_hybrid visformer vitamin volo xcit",
        _STEM,
    ),
    (
        "last",
        "cpubone efficientnet efficientvit_mit fastvit ghostnet lowformer regnetz_0* repghost rexnet "
        "vision_transformer_sam",
        _LAST,
    ),
    ("later", "ghostnet inception_v4 repghost", _EARLIER),
    ("later", "xception_aligned", _INSIDE),
    ("later", "haloregnetz_*", _ATTENDS),
    ("missing", "coat crossvit hrnet nasnet pnasnet", _PARALLEL),
    ("last", "hrnet", _EXTRA),
    ("later", "hrnet", _EXTRA),
    ("after", "deepseek_vit qwen3_vit", _AFTER),
    ("missing", "tresnet", _NOTHING),
)


def verdict(family: str, name: str, theirs: Level | None, ours: Level | None, all_theirs: Iterable[Level]) -> str:
    """Give the reason of a disagreement at one stride."""
    found = kind(theirs, ours, [stride for stride, _, _ in all_theirs])
    reasons = (
        reason
        for which, patterns, reason in VERDICTS
        if which == found and any(fnmatch(family, one) or fnmatch(name, one) for one in patterns.split())
    )
    return next(reasons, OPEN)


def kind(theirs: Level | None, ours: Level | None, strides: Iterable[int]) -> str:
    """Name the kind of a disagreement: who names a map, and where."""
    known = sorted(strides)
    if theirs is None and ours is not None:
        between = "after" if ours[0] > known[-1] else "between"
        return "stem" if ours[0] < known[0] else between
    if theirs is None or ours is None:
        return "missing"
    return "last" if theirs[0] == known[-1] else "later"
