"""Tables a bookkeeper can check: a line per case, cells between bars, the first line the heads."""

from datetime import UTC, datetime


def rows(table: str) -> list[list[str]]:
    """Return the cells of each line below the heads."""
    lines = table.strip().splitlines()
    return [[cell.strip() for cell in line.split("|")] for line in lines[1:]]


def at(text: str) -> datetime:
    """Return an instant; without an offset the text is in UTC."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
