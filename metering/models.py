"""How much: events as reported, and the readings they add up to.

The heavy tables carry `organization_id` in every primary and unique key and have no foreign
key, so that they can be distributed by it as they stand. Their SQL is in migration 0001; Django
knows their shape but neither creates nor writes them: `metering.store` and `metering.rollup` do.
"""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class IngestBatch(models.Model):
    """One accepted request: what it held, and whether its events are in the readings yet.

    This row is the unit of work. A broker message only says "look"; a sweeper looks anyway.
    """

    class State(models.TextChoices):
        PENDING = "pending"
        APPLIED = "applied"
        FAILED = "failed"
        HELD = "held"  # of a backfill that is open
        REVERTING = "reverting"  # of one that was reverted, and still in the readings
        REVERTED = "reverted"

    pk = models.CompositePrimaryKey("organization_id", "id")
    organization_id = models.BigIntegerField()
    id = models.BigIntegerField()
    received_at = models.DateTimeField(db_default=Now())
    api_key_id = models.BigIntegerField()
    submitted = models.IntegerField()
    accepted = models.IntegerField()
    duplicate = models.IntegerField()
    conflict = models.IntegerField()
    rejected = models.IntegerField()
    state = models.CharField(max_length=9, choices=State.choices)
    attempts = models.SmallIntegerField(default=0)
    lease_token = models.UUIDField(null=True)
    lease_until = models.DateTimeField(null=True)
    last_error = models.TextField(blank=True, default="")
    applied_at = models.DateTimeField(null=True)
    backfill_id = models.BigIntegerField(null=True)
    released_at = models.DateTimeField(null=True)  # when its backfill was closed or reverted
    sums = models.JSONField(null=True)  # of a backfill's batch: what its events add up to
    limits_version = models.SmallIntegerField(db_default=1)  # its events are told apart by, once in
    has_minutes = models.BooleanField(db_default=False)  # its events are summed by the minute too
    # Nothing sent in it happened before or after; null where it reported no event.
    occurred_first = models.DateTimeField(null=True)
    occurred_last = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "metering_ingestbatch"


class EventKey(models.Model):
    """The identity of an event, unique for good: (organization, source, id). A view.

    Its table, `metering_identity`, is narrow and not partitioned by time, because a unique key and
    time partitions exclude each other. `batch_id` and `ordinal` lead to the event itself.
    """

    pk = models.CompositePrimaryKey("organization_id", "source", "event_id")
    organization_id = models.BigIntegerField()
    source = models.TextField()
    event_id = models.TextField()
    batch_id = models.BigIntegerField()
    ordinal = models.SmallIntegerField()

    class Meta:
        managed = False
        db_table = "metering_eventkey"


class UsageEvent(models.Model):
    """One reported fact of use, immutable. Its source and id stand in EventKey, once.

    A view: events lie in `metering_segment`, a row of arrays for each batch, and the names they
    repeat in `metering_attribution` (`metering.segments`, `metering.names`).
    """

    pk = models.CompositePrimaryKey("organization_id", "batch_id", "ordinal")
    organization_id = models.BigIntegerField()
    batch_id = models.BigIntegerField()
    ordinal = models.SmallIntegerField()
    received_at = models.DateTimeField()
    occurred_at = models.DateTimeField()
    project_id = models.BigIntegerField()
    model = models.TextField()
    api_key = models.TextField(null=True)  # noqa: DJ001 - absent is not the empty string
    agent = models.TextField(null=True)  # noqa: DJ001
    session = models.TextField(null=True)  # noqa: DJ001
    region = models.TextField(null=True)  # noqa: DJ001
    service_class = models.TextField(null=True)  # noqa: DJ001
    input = models.BigIntegerField(null=True)
    cache_read = models.BigIntegerField(null=True)
    cache_write = models.BigIntegerField(null=True)
    output = models.BigIntegerField(null=True)
    reasoning = models.BigIntegerField(null=True)
    other = models.JSONField(null=True)
    attribution_id = models.IntegerField()

    class Meta:
        managed = False
        db_table = "metering_event"


class RatingKey(models.Model):
    """Everything rating needs to know of usage besides when, how much and which register."""

    pk = models.CompositePrimaryKey("organization_id", "id")
    organization_id = models.BigIntegerField()
    id = models.BigIntegerField()
    project_id = models.BigIntegerField()
    model = models.TextField()
    api_key = models.TextField()
    agent = models.TextField()
    region = models.TextField()
    service_class = models.TextField()
    input_band = models.BigIntegerField(db_default=0)
    thinking = models.BooleanField(db_default=False)
    attributes = models.TextField(db_default="")

    class Meta:
        managed = False
        db_table = "metering_ratingkey"


class Quantity(models.Model):
    """One rating key's quantity in one register for a stretch of time that begins at an instant."""

    pk = models.CompositePrimaryKey("organization_id", "starts_at", "rating_key_id", "register")
    organization_id = models.BigIntegerField()
    starts_at = models.DateTimeField()
    rating_key_id = models.BigIntegerField()
    register = models.TextField()
    quantity = models.BigIntegerField()

    class Meta:
        abstract = True


class Reading(Quantity):
    """For one quarter-hour, half-open, UTC."""

    class Meta:
        managed = False
        db_table = "metering_reading"


class ReadingHour(Quantity):
    """Four readings added up: the same quantities by the hour, in UTC. Only for speed."""

    class Meta:
        managed = False
        db_table = "metering_readinghour"


class Minute(models.Model):
    """One API key's quantity in one register for one minute, in UTC; of those who need it."""

    pk = models.CompositePrimaryKey("organization_id", "starts_at", "api_key", "register")
    organization_id = models.BigIntegerField()
    starts_at = models.DateTimeField()
    api_key = models.TextField()
    register = models.TextField()
    quantity = models.BigIntegerField()

    class Meta:
        managed = False
        db_table = "metering_minute"


class Rejection(models.Model):
    """An event that was not taken, raw, with the reason; the same one sent again is seen again."""

    pk = models.CompositePrimaryKey("organization_id", "id")
    organization_id = models.BigIntegerField()
    id = models.BigIntegerField()
    digest = models.BinaryField()
    received_at = models.DateTimeField()  # the last time
    seen = models.IntegerField()
    batch_id = models.BigIntegerField()  # the last one
    api_key_id = models.BigIntegerField()
    form = models.TextField()
    code = models.TextField()
    pointer = models.TextField()
    detail = models.TextField()
    event_id = models.TextField(null=True)  # noqa: DJ001 - absent is not the empty string
    raw = models.TextField()
    masked = models.BooleanField()  # something was left out of it, so it cannot be sent again
    replayed_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "metering_rejection"


class Void(models.Model):
    """An event that was taken back: at most one for an event, and never changed.

    `batch_id` and `ordinal` lead to what took it back: an amendment, which is an event of its own,
    or a void, which has an identity and no usage.
    """

    pk = models.CompositePrimaryKey("organization_id", "target_batch_id", "target_ordinal")
    organization_id = models.BigIntegerField()
    target_batch_id = models.BigIntegerField()
    target_received_at = models.DateTimeField()
    target_ordinal = models.SmallIntegerField()
    batch_id = models.BigIntegerField()
    received_at = models.DateTimeField()
    ordinal = models.SmallIntegerField()
    is_amendment = models.BooleanField()
    reaches_back_to = models.DateTimeField()  # the earliest usage that it changes
    api_key_id = models.BigIntegerField()
    reason = models.TextField(null=True)  # noqa: DJ001 - absent is not the empty string

    class Meta:
        managed = False
        db_table = "metering_void"


class Backfill(models.Model):
    """Usage of long ago on its way in: sent while it is open, counted once it is closed."""

    class State(models.TextChoices):
        OPEN = "open"
        CLOSED = "closed"
        REVERTED = "reverted"

    pk = models.CompositePrimaryKey("organization_id", "id")
    organization_id = models.BigIntegerField()
    id = models.BigIntegerField()
    state = models.TextField(choices=State.choices)
    reason = models.TextField()
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    opened_by = models.TextField()  # a person's address or a key's prefix
    opened_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)
    reverted_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "metering_backfill"


class QuarantineDay(models.Model):
    """What was put into quarantine on one day, in UTC, and how much found no room there."""

    pk = models.CompositePrimaryKey("organization_id", "day")
    organization_id = models.BigIntegerField()
    day = models.DateField()
    kept = models.IntegerField()
    kept_bytes = models.BigIntegerField()
    left_out = models.BigIntegerField()  # told and counted as every rejection, and not kept

    class Meta:
        managed = False
        db_table = "metering_quarantineday"


class Reaggregation(models.Model):
    """An organization's usage since an instant, to be told apart by a larger set of limits."""

    pk = models.CompositePrimaryKey("organization_id", "id")
    organization_id = models.BigIntegerField()
    id = models.BigIntegerField()
    version = models.SmallIntegerField()
    minutes = models.BooleanField(db_default=False)  # and by the minute
    starts_at = models.DateTimeField()
    asked_at = models.DateTimeField()
    reached_id = models.BigIntegerField()  # how far the walk over the batches came
    stepped_at = models.DateTimeField(null=True)
    attempts = models.SmallIntegerField()
    retry_at = models.DateTimeField(null=True)
    last_error = models.TextField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        managed = False
        db_table = "metering_reaggregation"


class Heartbeat(models.Model):
    """When each background worker was last seen at work."""

    worker = models.CharField(max_length=120, primary_key=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.worker
