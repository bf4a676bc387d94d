"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from attn_surgeon.cli import completion
from attn_surgeon.errors import SurgeonError, first_line
from attn_surgeon.validation import read_count

if TYPE_CHECKING:
    import torch

    from attn_surgeon.artefact.open_network import LoadedNetwork
    from attn_surgeon.networks.preprocessing import PreprocessingOverrides

AsJson = Annotated[
    bool, typer.Option("--json", help="Print the result as one JSON document, and nothing else, to standard output.")
]
Network = Annotated[
    str,
    typer.Argument(
        help="A source (timm/NAME, tv/NAME, NAME, ultralytics/NAME.yaml, ultralytics/FILE.pt, file.py:factory, "
        "package.module:factory, demo) or an artefact.",
        autocompletion=completion.networks,
    ),
]
NetworkOrNewest = Annotated[
    str | None,
    typer.Argument(
        help="An artefact, or a source as for insert (default: the newest artefact in this folder).",
        autocompletion=completion.networks,
        show_default=False,
    ),
]
ArtefactPath = Annotated[
    str | None,
    typer.Argument(
        help="An artefact (default: the newest in this folder).",
        autocompletion=completion.artefacts,
        show_default=False,
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="WEIGHTS",
        help="default (pretrained), none, a name of torchvision's such as IMAGENET1K_V2, or a file.",
        show_default=False,
    ),
]
Arguments = Annotated[
    list[str] | None,
    typer.Option(
        "--arg",
        metavar="KEY=VALUE",
        help="Argument of the network's factory, such as num_classes=10. Repeatable.",
        show_default=False,
    ),
]


def _adopt_each(places: list[str] | None) -> list[str] | None:
    """Register the user's own blocks, before an artefact that has them is read."""
    if places:
        from attn_surgeon.blocks.base.user_blocks import import_user_block

        for place in places:
            name, _, code = place.rpartition("=")
            import_user_block(name, code)
    return places


Source = Annotated[
    str | None,
    typer.Option(
        "--source",
        metavar="FACTORY",
        help="Factory of your own network, which the artefact was made from; its code is run.",
        show_default=False,
    ),
]
Own = Annotated[
    list[str] | None,
    typer.Option(
        "--own",
        metavar="FACTORY",
        help="Block of your own: file.py:Factory or NAME=file.py:Factory; its code is run. Repeatable.",
        show_default=False,
        callback=_adopt_each,
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Run the code that the file names: factories of its network and blocks, or of a pickle."
    ),
]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="PyTorch device: cpu, cuda, cuda:1 …")]
Mean = Annotated[
    str | None, typer.Option(metavar="NUMBERS", help="Mean per channel, such as 0.485,0.456,0.406.", show_default=False)
]
Std = Annotated[
    str | None,
    typer.Option(
        metavar="NUMBERS", help="Standard deviation per channel, such as 0.229,0.224,0.225.", show_default=False
    ),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Input size: 224, or 224x320 for height and width.", show_default=False),
]
Output = Annotated[
    str | None, typer.Option("--output", "-o", metavar="FILE", help="The file to write.", show_default=False)
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]
AllowPartial = Annotated[
    bool, typer.Option("--allow-partial", help="Load only the weights that fit, and print how many.")
]


_LARGEST_SIDE = 100_000  # the most channels, height or width of features


class OptionError(SurgeonError):
    """Report an option whose value is invalid."""


def open_from_options(
    text: str,
    *,
    weights: str | None,
    args: Sequence[str] | None,
    source: str | None,
    mean: str | None,
    std: str | None,
    size: str | None,
    allow_partial: bool = False,
    trust: bool = False,
) -> LoadedNetwork:
    """Open a network or an artefact as the options say."""
    from attn_surgeon.artefact.open_network import open_network

    if text.endswith(".onnx"):
        raise OptionError("this is an ONNX file", text, "name a network or an artefact; ONNX files are for profile")
    pairs, images = read_pairs(args, "--arg"), read_images(mean, std, size)
    return open_network(
        text, weights=weights, args=pairs, images=images, source=source, allow_partial=allow_partial, trust=trust
    )


def network_options(context: typer.Context) -> list[str]:
    """Return the options that were given of how to open the network, as typed, for another command on it."""
    names = ("weights", "args", "allow_partial", "source", "own", "trust", "mean", "std", "size")
    words: list[str] = []
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if parameter.name in names and value:
            flag = parameter.opts[0]
            each = [value] if isinstance(value, str) else value
            words += [flag] if value is True else [word for text in each for word in (flag, text)]
    return words


def read_pairs(texts: Sequence[str] | None, option: str) -> dict[str, str]:
    """Return key=value texts as a dict; raise OptionError for one without a key or `=`."""
    pairs = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise OptionError(f"expected key=value, got '{text}'", option, f"write it as {option} key=value")
        pairs[key] = value
    return pairs


def read_images(mean: str | None, std: str | None, size: str | None) -> PreprocessingOverrides:
    """Return the preprocessing that --mean, --std and --size override."""
    from attn_surgeon.networks.preprocessing import PreprocessingOverrides

    return PreprocessingOverrides(_numbers(mean, "--mean"), _numbers(std, "--std"), read_size(size))


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(
            f"expected numbers with commas between them, got '{text}'", option, "write it as 0.485,0.456,0.406"
        ) from None


def read_size(text: str | None) -> tuple[int, int] | None:
    """Return a size as (height, width)."""
    if text is None:
        return None
    sides = [read_count(side) for side in text.lower().split("x")]
    height, width = sides[0], sides[-1]
    if len(sides) > 2 or height is None or width is None:
        raise OptionError(f"invalid size '{text}'", "--size", "write it as 224, or as 224x320 for height x width")
    return height, width


def require_device(name: str) -> None:
    """Raise OptionError for a device that torch does not know or cannot use."""
    import torch

    try:
        torch.empty(1, device=name).cpu()
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"the device '{name}' cannot be used: {first_line(error)}", "--device", "use cpu") from None


def device_name(where: torch.device) -> str:
    """Return a device's name: a GPU's model, or the CPU with its number of threads."""
    import torch

    if where.type == "cuda":
        return torch.cuda.get_device_name(where)
    threads = torch.get_num_threads()
    return f"the CPU with {threads} thread{'s' if threads > 1 else ''}"


def read_shape(text: str) -> tuple[int, int, int]:
    """Return C,H,W as integers."""
    sides = [side for side in map(read_count, text.split(",", 3)) if side is not None]
    if len(sides) != 3 or text.count(",") != 2 or max(sides) > _LARGEST_SIDE:
        raise OptionError(f"expected C,H,W of at most {_LARGEST_SIDE:,}, got '{text}'", "--at", "write it as 256,14,14")
    channels, height, width = sides
    return channels, height, width
