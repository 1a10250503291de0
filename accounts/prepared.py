"""Statements that the server plans once for each connection: the few that run for every invoice.

A query set is made into text anew each time, and the server plans that text anew each time: for a
row found by its key both cost far more than finding it. A statement whose best plan depends on the
values asked for does not belong here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from django.db import DEFAULT_DB_ALIAS, connections, models
from django.db.backends.postgresql.base import ServerBindingCursor
from django.db.backends.utils import CursorWrapper

Model = TypeVar("Model", bound=models.Model)
Parameters = Sequence[Any] | Mapping[str, Any]


@contextmanager
def cursor() -> Iterator[CursorWrapper]:
    """A cursor whose statements are prepared after a few times (settings: `prepare_threshold`)."""
    default = connections[DEFAULT_DB_ALIAS]  # once: each look through `connection` costs anew
    default.ensure_connection()
    with default.wrap_database_errors:
        bound: Any = ServerBindingCursor(default.connection)  # type: ignore[call-arg]
    with default.make_cursor(bound) as wrapped:
        yield wrapped


def rows(statement: str, parameters: Parameters) -> list[tuple[Any, ...]]:
    """Run a statement and fetch all it returns."""
    with cursor() as running:
        running.execute(statement, parameters)
        found: list[tuple[Any, ...]] = running.fetchall()
    return found


class Columns(Generic[Model]):
    """The columns of a model in a statement's text, and rows of them as its instances."""

    def __init__(self, model: type[Model], alias: str, *, without: Collection[str] = ()) -> None:
        """`without` are fields that an instance fetches when it is first asked for them."""
        fields = [one for one in model._meta.concrete_fields if one.name not in without]
        converted = [one.name for one in fields if hasattr(one, "from_db_value")]
        assert not converted, f"rows hold these of {model.__name__} unconverted: {converted}"
        self.text = ", ".join(f"{alias}.{one.column}" for one in fields)
        self._model, self._names = model, [one.attname for one in fields]

    def __len__(self) -> int:
        return len(self._names)

    def instance(self, row: Sequence[Any]) -> Model:
        """One row, in the order of the columns, as a query set would give it."""
        return self._model.from_db(DEFAULT_DB_ALIAS, self._names, row)
