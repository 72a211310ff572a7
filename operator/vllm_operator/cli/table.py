"""Tables for people: columns of equal width, whatever the cells hold."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.cells import cell_len

from vllm_operator.cli.outside import comment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

EMPTY: Final = "-"


def cells_of(rows: Sequence[Sequence[str]]) -> list[tuple[str, ...]]:
    """The cells as one line each of what can be printed: what an engine's log or a user has brought into them too."""
    return [tuple(comment(cell) or EMPTY for cell in row) for row in rows]


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """One line a row; the last column, which holds sentences, is as long as it is.

    Widths are those of a terminal, where a Chinese character takes two columns.
    """
    if not rows:
        return
    widths = [max(cell_len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=False))
        yield "  ".join([*padded, row[-1]])
