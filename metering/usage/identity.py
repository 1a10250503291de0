"""How an id is kept: a canonical UUID as its sixteen bytes, any other text as UTF-8. Pure.

0xff, which marks a UUID, never begins UTF-8, so no two ids are packed alike; and UUIDs keep their
order, so ids that begin with the time lie together. `metering_packed` in SQL does the same.
"""

import re
from collections.abc import Sequence

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
UUID_MARK = "ff"
# Every hexadecimal digit as a nought, so that all canonical UUIDs look the same.
_SHAPE = bytes.maketrans(b"123456789abcdef", b"000000000000000")
_UUID_SHAPE = b"00000000-0000-0000-0000-000000000000\n"


def packed_hex(event_id: str) -> str:
    """The bytes an id is kept as, in hexadecimal."""
    if len(event_id) == 36 and UUID.fullmatch(event_id):
        return UUID_MARK + event_id.replace("-", "")
    return event_id.encode().hex()


def all_packed_hex(event_ids: Sequence[str]) -> list[str]:
    """The same of many: UUIDs throughout, as they mostly are, are looked at all at once."""
    found = packed_uuids(event_ids)
    return [packed_hex(event_id) for event_id in event_ids] if found is None else found


def packed_uuids(event_ids: Sequence[str]) -> list[str] | None:
    """The same of canonical UUIDs; None where one of them is something else."""
    lines = "\n".join([*event_ids, ""])
    if lines.encode().translate(_SHAPE) != _UUID_SHAPE * len(event_ids):
        return None
    return [UUID_MARK + digits for digits in lines.replace("-", "").splitlines()]


def packed(event_id: str) -> bytes:
    """The bytes an id is kept as; injective."""
    return bytes.fromhex(packed_hex(event_id))
