"""What stored usage takes on disk, indexes and toast included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg

from bench.report import Result

EVENTS = ("metering_segment", "metering_identity", "metering_ingestbatch", "metering_attribution",
          "metering_source")  # fmt: skip
SIZE = """
    SELECT sum(coalesce((SELECT sum(pg_total_relation_size(part.relid))
                         FROM pg_partition_tree(name::regclass) AS part),
                        pg_total_relation_size(name::regclass)))
    FROM unnest(%s::text[]) AS name
"""


def size_bytes(own: psycopg.Connection[Any], *tables: str) -> int:
    """The tables with their partitions, indexes and toast."""
    (size,) = own.execute(SIZE, [list(tables)]).fetchone() or (0,)
    return int(size)


def sizes(own: psycopg.Connection[Any], events: int) -> Iterator[Result]:
    """Bytes per event, beside the table that raw COPY filled with as many."""
    copied = size_bytes(own, "bench_copy") / events
    stored = size_bytes(own, *EVENTS) / events
    name, unit = "raw COPY on disk", "bytes per event"
    yield Result(name, copied, unit)
    yield Result("stored event on disk, with its identity", stored, unit, name, stored / copied)
