"""The plain Django way that ingestion is compared with: a DRF serializer and bulk_create."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from django.db import models
from rest_framework import serializers

from bench.batches import Event


class PlainEvent(models.Model):
    """One row per event, one unique key, as one would write it first."""

    organization_id = models.BigIntegerField()
    source = models.CharField(max_length=128)
    event_id = models.CharField(max_length=128)
    received_at = models.DateTimeField(auto_now_add=True)
    occurred_at = models.DateTimeField()
    project = models.CharField(max_length=63)
    model = models.CharField(max_length=128)
    api_key = models.CharField(max_length=64)
    agent = models.CharField(max_length=128)
    session = models.CharField(max_length=128)
    region = models.CharField(max_length=64)
    service_class = models.CharField(max_length=40)
    input = models.BigIntegerField(default=0)
    cache_read = models.BigIntegerField(default=0)
    output = models.BigIntegerField(default=0)
    reasoning = models.BigIntegerField(default=0)

    objects: ClassVar[models.Manager[PlainEvent]] = models.Manager()

    class Meta:
        app_label = "metering"
        db_table = "bench_plain_event"
        constraints = [
            models.UniqueConstraint(
                fields=["organization_id", "source", "event_id"], name="bench_plain_event_once"
            ),
        ]


class UsageSerializer(serializers.Serializer[Any]):
    input = serializers.IntegerField(min_value=0, max_value=10**12, required=False)
    cache_read = serializers.IntegerField(min_value=0, max_value=10**12, required=False)
    output = serializers.IntegerField(min_value=0, max_value=10**12, required=False)
    reasoning = serializers.IntegerField(min_value=0, max_value=10**12, required=False)


class EventSerializer(serializers.Serializer[Any]):
    id = serializers.CharField(max_length=128)
    source = serializers.CharField(max_length=128)  # type: ignore[assignment]  # a field's own
    occurred_at = serializers.DateTimeField()
    project = serializers.SlugField(max_length=63)
    model = serializers.CharField(max_length=128)
    api_key = serializers.CharField(max_length=64)
    agent = serializers.CharField(max_length=128)
    session = serializers.CharField(max_length=128)
    region = serializers.CharField(max_length=64)
    service_class = serializers.CharField(max_length=40)
    usage = UsageSerializer()


def take(batches: Iterable[list[Event]], organization_id: int) -> None:
    """What a view would do with each parsed body; no HTTP, no key: in its favour."""
    for events in batches:
        _take(events, organization_id)


def _take(events: list[Event], organization_id: int) -> None:
    serializer = EventSerializer(data=events, many=True)
    serializer.is_valid(raise_exception=True)
    rows = []
    for event in serializer.validated_data:
        usage, event_id = event.pop("usage"), event.pop("id")
        rows.append(
            PlainEvent(organization_id=organization_id, event_id=event_id, **event, **usage)
        )
    PlainEvent.objects.bulk_create(rows, ignore_conflicts=True)
