"""Match the classes of data to the outputs of a network where their names do not match."""

from __future__ import annotations

from attn_surgeon.errors import DataError, option


def note_on_index(classes: int, outputs: int, *, named: bool, by_index: bool) -> str:
    """Return a note on matching classes to outputs by index; empty where the network has no names that differ.

    Args:
        classes: the number of classes of the data.
        outputs: the number of outputs.
        named: whether the names of the outputs are known.
        by_index: match fewer classes than outputs too, to the first ones.

    Raises:
        DataError: the numbers differ.
    """
    what = f"the network has {outputs} outputs, the data {classes} classes"
    if classes == outputs:
        return "the data's class names are not the network's: matched by index" if named else ""
    if classes < outputs and by_index:
        return f"{what}: matched by index to the first {classes}"
    hint = "use data with the network's classes, or a network with a head for these"
    if classes < outputs:
        hint += f"; to match them to the first {classes} outputs: {option('classes_by_index', True)}"
    raise DataError(f"{what}, and their names do not match", option("data"), hint)
