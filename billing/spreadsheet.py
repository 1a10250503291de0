"""CSV files that a spreadsheet opens without running what is in them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from decimal import Decimal

from django.http import StreamingHttpResponse

# What makes a spreadsheet take a cell for a formula; in East Asian editions the wide signs do, too.
FORMULA_STARTS = (
    *("=", "+", "-", "@", "\t", "\r", "\n"),
    *("\N{FULLWIDTH EQUALS SIGN}", "\N{FULLWIDTH PLUS SIGN}"),
    *("\N{FULLWIDTH HYPHEN-MINUS}", "\N{FULLWIDTH COMMERCIAL AT}"),
)

Cell = str | int | Decimal | None


class _Echo:
    """A file whose `write` hands the line back."""

    def write(self, line: str) -> str:
        return line


def cell(value: Cell) -> str:
    """Numbers as they are; a text that would be a formula gets an apostrophe in front."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, int):
        return str(value)
    return f"'{value}" if value.startswith(FORMULA_STARTS) else value


def lines(rows: Iterable[Iterable[Cell]]) -> Iterator[str]:
    """The rows as CSV lines, one at a time."""
    writer = csv.writer(_Echo())
    for row in rows:
        yield str(writer.writerow([cell(value) for value in row]))


def download(name: str, rows: Iterable[Iterable[Cell]]) -> StreamingHttpResponse:
    """The rows as a file to keep, streamed."""
    return StreamingHttpResponse(
        lines(rows),
        content_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )
