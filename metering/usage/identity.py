"""How an id is kept: a canonical UUID as its sixteen bytes, any other text as UTF-8. Pure.

0xff, which marks a UUID, never begins UTF-8, so no two ids are packed alike; and UUIDs keep their
order, so ids that begin with the time lie together. `metering_packed` in SQL does the same.
"""

import re
from collections.abc import Sequence

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_UUIDS = re.compile(rf"(?:{UUID.pattern}\n)*", re.ASCII)
UUID_MARK = "ff"


def packed_hex(event_id: str) -> str:
    """The bytes an id is kept as, in hexadecimal."""
    if len(event_id) == 36 and UUID.fullmatch(event_id):
        return UUID_MARK + event_id.replace("-", "")
    return event_id.encode().hex()


def all_packed_hex(event_ids: Sequence[str]) -> list[str]:
    """The same of many: UUIDs throughout, as they mostly are, are looked at all at once."""
    lines = "\n".join([*event_ids, ""])
    if not _UUIDS.fullmatch(lines):
        return [packed_hex(event_id) for event_id in event_ids]
    return [UUID_MARK + packed for packed in lines.replace("-", "").splitlines()]


def packed(event_id: str) -> bytes:
    """The bytes an id is kept as; injective."""
    return bytes.fromhex(packed_hex(event_id))
