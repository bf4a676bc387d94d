"""The schema of recipes. It stands apart because pydantic takes time to import that most commands need not spend."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

from attn_surgeon.networks.preprocessing import PreprocessingOverrides

if TYPE_CHECKING:
    from attn_surgeon.surgery.sites.selection import Selection


def _listed(value: object) -> object:
    return [value] if isinstance(value, str) else value


Selectors = Annotated[tuple[str, ...], BeforeValidator(_listed)]
LARGEST_SEED = 2**63 - 1
Value = bool | int | float | str | None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(_Strict):
    """A network by name or factory, and its weights."""

    name: str
    weights: str = "default"
    args: dict[str, JsonValue] = Field(default_factory=dict)


class Insert(_Strict):
    """One insertion."""

    block: str
    at: Selectors = ()
    after: Selectors = ()
    before: Selectors = ()
    exclude: Selectors = ()
    min_channels: Annotated[int, Field(ge=0)] = 0
    every: Annotated[int, Field(ge=1)] = 1
    last: Annotated[int, Field(ge=0)] = 0
    with_: Annotated[str, Field(alias="with")] = ""
    layout: str = ""
    options: dict[str, Value] = Field(default_factory=dict)
    init: Literal["identity", "paper"] = "identity"

    @model_validator(mode="after")
    def _names_a_site(self) -> Insert:
        if not self.at and not self.after and not self.before:
            raise ValueError("name sites with at, after or before")
        return self

    def selection(self) -> Selection:
        """Return what chooses the sites."""
        from attn_surgeon.surgery.sites.selection import Selection

        return Selection.read(**{field.name: getattr(self, field.name) for field in fields(Selection)})


class Operation(_Strict):
    """One step of the surgery."""

    insert: Insert


class Recipe(_Strict):
    """A source, and what is done to it."""

    source: Annotated[Source, BeforeValidator(lambda value: {"name": value} if isinstance(value, str) else value)]
    operations: Annotated[tuple[Operation, ...], Field(min_length=1)]
    images: PreprocessingOverrides = PreprocessingOverrides()
    strict: bool = False
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED)] = 0
    output: str | None = None
