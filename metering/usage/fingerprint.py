"""What makes two reports of an event the same: sixteen bytes over its content. Pure.

Source and id are left out: they are the identity that the content is compared under. The project
goes in by its row, not by its name: a renamed project must not turn a retry into a conflict.
"""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b

from metering.usage.event import UsageEvent

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
SIZE = 16
FORM = "1"  # of the canonical text below; a new form needs a new number


def fingerprint(event: UsageEvent, project_id: int) -> bytes:
    """The digest of an event's content. No text may hold a control character, so 0x1f separates."""
    canonical = (
        f"{FORM}\x1f{(event.occurred_at - EPOCH) // MICROSECOND}\x1f{project_id}\x1f{event.model}"
        f"\x1f{event.api_key or ''}\x1f{event.agent or ''}\x1f{event.session or ''}"
        f"\x1f{event.region or ''}\x1f{event.service_class or ''}\x1f{sorted(event.usage.items())}"
    )
    return blake2b(canonical.encode(), digest_size=SIZE).digest()
