"""Rows of what-if runs: what was asked, and what each organization would have paid.

They hold answers, not billing data: nothing else reads them, and they are let go of after a while.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q


class Verdict(models.TextChoices):
    """What a comparison says of one organization."""

    WAITING = "waiting"
    CHEAPER = "cheaper", "less"
    DEARER = "dearer", "more"
    SAME = "same", "the same"
    UNCLEAR = "unclear", "not clear: some usage has no price there"
    OTHER_CURRENCY = "other_currency", "billed in another currency"
    NO_PERIOD = "no_period", "no billing period that begins then has ended"
    NO_PRICES = "no_prices", "the other tariff had no prices then"
    NOT_TOLD_APART = (
        "not_told_apart",
        "whose readings do not tell the sizes of requests, or the minutes, that its prices ask for",
    )
    COST_UNKNOWN = "cost_unknown", "with usage that is passed on at a cost nobody has approved"
    FAILED = "failed", "could not be rated"


COMPARED = (Verdict.CHEAPER, Verdict.DEARER, Verdict.SAME, Verdict.UNCLEAR)
LEFT_OUT = (
    Verdict.OTHER_CURRENCY,
    Verdict.NO_PERIOD,
    Verdict.NO_PRICES,
    Verdict.NOT_TOLD_APART,
    Verdict.COST_UNKNOWN,
    Verdict.FAILED,
)


class Comparison(models.Model):
    """Past periods under another tariff, as somebody asked for it: a tariff or a document."""

    class State(models.TextChoices):
        RUNNING = "running"
        DONE = "done"
        CANCELLED = "cancelled"

    tariff = models.ForeignKey(
        "billing.Tariff", models.PROTECT, null=True, blank=True, related_name="+"
    )
    document = models.JSONField(null=True, blank=True)
    name = models.CharField(max_length=160, help_text="what pages call the other tariff")
    currency = models.CharField(max_length=3)
    first = models.DateField(help_text="periods that begin on this local day or later")
    last = models.DateField(help_text="and before this one")
    scope = models.CharField(max_length=160, help_text="whose periods, in words")
    state = models.CharField(max_length=9, choices=State.choices, default=State.RUNNING)
    turn = models.PositiveIntegerField(default=0, help_text="how often a worker was at it")
    turn_until = models.DateTimeField(
        null=True, blank=True, help_text="when its turn is over at the latest"
    )
    asked_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    asked_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField()

    class Meta:
        ordering = ["-asked_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(tariff=None, document__isnull=False)
                | Q(tariff__isnull=False, document__isnull=True),
                name="comparison_is_with_one_tariff",
            ),
            models.CheckConstraint(
                condition=Q(first__lt=F("last")), name="comparison_runs_forward"
            ),
            models.CheckConstraint(
                condition=Q(state="running", finished_at=None)
                | (~Q(state="running") & Q(finished_at__isnull=False)),
                name="comparison_finished_says_when",
            ),
            models.UniqueConstraint(
                fields=["asked_by"],
                condition=Q(state="running"),
                name="comparison_one_running_per_person",
            ),
        ]

    def __str__(self) -> str:
        return f"What if {self.name}, {self.first} to {self.last}"


class ComparedOrganization(models.Model):
    """One organization's periods in a comparison, in whole minor units of its currency.

    The curves are what each side comes to at `break_even.FACTORS`; empty until worked out.
    """

    comparison = models.ForeignKey(Comparison, models.CASCADE, related_name="rows")
    organization = models.ForeignKey("accounts.Organization", models.PROTECT, related_name="+")
    verdict = models.CharField(max_length=14, choices=Verdict.choices, default=Verdict.WAITING)
    periods = models.PositiveIntegerField(default=0)
    old_minor = models.BigIntegerField(default=0)
    new_minor = models.BigIntegerField(default=0)
    unpriced = models.BigIntegerField(
        default=0, help_text="units that only the other tariff has no price for"
    )
    newly_priced = models.BigIntegerField(
        default=0, help_text="units that only the other tariff has a price for"
    )
    notes = ArrayField(models.CharField(max_length=20), default=list)
    old_curve = ArrayField(models.BigIntegerField(), default=list)
    new_curve = ArrayField(models.BigIntegerField(), default=list)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["comparison", "organization"], name="compared_organization_once"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization}: {self.get_verdict_display()}"
