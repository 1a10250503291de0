"""How an id is kept: a canonical UUID as its sixteen bytes, any other text as UTF-8. Pure.

0xff, which marks a UUID, never begins UTF-8, so no two ids are packed alike; and UUIDs keep their
order, so ids that begin with the time lie together. `metering_packed` in SQL does the same.
"""

import re

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
UUID_MARK = "ff"


def packed_hex(event_id: str) -> str:
    """The bytes an id is kept as, in hexadecimal."""
    if len(event_id) == 36 and UUID.fullmatch(event_id):
        return UUID_MARK + event_id.replace("-", "")
    return event_id.encode().hex()


def packed(event_id: str) -> bytes:
    """The bytes an id is kept as; injective."""
    return bytes.fromhex(packed_hex(event_id))
