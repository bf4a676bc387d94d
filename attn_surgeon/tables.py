"""Tables as plain text and HTML, for the Python prompt, notebooks and the command line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Self

GAP = "  "


@dataclass(frozen=True)
class Table:
    """A table with a title; the columns named in `numbers` are right-aligned.

    >>> print(Table("2 blocks", ("block", "parameters"), (("se", "530"), ("eca", "1,024")), {"parameters"}))
    2 blocks
    block  parameters
    se            530
    eca         1,024
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: Collection[str] = ()

    def only(self, columns: Collection[str]) -> Self:
        """Return the table with only the named columns."""
        kept = [index for index, column in enumerate(self.columns) if column in columns]
        rows = tuple(tuple(row[index] for index in kept) for row in self.rows)
        return replace(self, columns=tuple(self.columns[index] for index in kept), rows=rows)

    def without_empty_columns(self) -> Self:
        """Return the table without columns that are empty in every row."""
        return self.only([name for index, name in enumerate(self.columns) if any(row[index] for row in self.rows)])

    def __str__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(len(line[index]) for line in lines) for index in range(len(self.columns))]
        return "\n".join([*([self.title] if self.title else []), *(self._line(line, widths) for line in lines)])

    def _line(self, cells: Sequence[str], widths: Sequence[int]) -> str:
        aligned = [
            cell.rjust(width) if column in self.numbers else cell.ljust(width)
            for column, cell, width in zip(self.columns, cells, widths, strict=True)
        ]
        return GAP.join(aligned).rstrip()

    def html(self) -> str:
        """Return the table as HTML, for notebooks."""
        head = "".join(f"<th>{escape(column)}</th>" for column in self.columns)
        body = "".join(f"<tr>{''.join(map(self._cell, self.columns, row))}</tr>" for row in self.rows)
        caption = f"<caption>{escape(self.title)}</caption>" if self.title else ""
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"

    def _cell(self, column: str, text: str) -> str:
        align = "right" if column in self.numbers else "left"
        return f'<td style="text-align: {align}">{escape(text)}</td>'


def short_count(number: int) -> str:
    """Return a count rounded to at most four characters and a unit, such as `25.6M`; an empty text for 0."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            value = number / size
            return f"{value:.0f}{unit}" if value >= 100 else f"{value:.1f}{unit}"
    return str(number) if number else ""
