"""Rows of the price book besides tariffs: what was negotiated, and what waits for a second person.

Both only grow: triggers (migration 0004) keep what was agreed, proposed and decided as it was.
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import RangeOperators
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from billing.instants import InstantRange


class NegotiatedTerms(models.Model):
    """What an organization agreed on besides its tariff, from an instant on; never edited.

    A change is a new row, which shortens or withdraws those it replaces (`billing.negotiations`).
    """

    subscription = models.ForeignKey(
        "billing.Subscription", models.PROTECT, related_name="negotiated"
    )
    number = models.PositiveIntegerField()
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True, blank=True, help_text="empty: until further notice")
    known_at = models.DateTimeField(db_default=Now())
    withdrawn_at = models.DateTimeField(
        null=True, blank=True, help_text="when later terms replaced the whole of it"
    )
    document = models.JSONField(help_text="docs/reference/negotiated.md says what may stand here")
    reference = models.CharField(max_length=200, help_text="the agreement it follows from")

    class Meta:
        ordering = ["subscription", "number"]
        verbose_name = verbose_name_plural = "negotiated terms"
        constraints = [
            models.UniqueConstraint(
                fields=["subscription", "number"], name="negotiated_terms_number_once"
            ),
            models.CheckConstraint(
                condition=Q(valid_to=None) | Q(valid_to__gt=F("valid_from")),
                name="negotiated_terms_run_forward",
            ),
            models.CheckConstraint(
                condition=~Q(reference=""), name="negotiated_terms_name_the_agreement"
            ),
            ExclusionConstraint(
                name="negotiated_terms_never_overlap",
                expressions=[
                    ("subscription", RangeOperators.EQUAL),
                    (InstantRange("valid_from", "valid_to"), RangeOperators.OVERLAPS),
                ],
                condition=Q(withdrawn_at=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.subscription}, negotiated {self.number}"


class PriceProposal(models.Model):
    """Prices that somebody wants to publish and somebody else has to approve.

    Of a tariff or of one subscription's negotiated terms. It says what was shown when it was
    proposed: the document, its digest, and what it would change.
    """

    class State(models.TextChoices):
        PROPOSED = "proposed"
        APPROVED = "approved"
        REFUSED = "refused"
        WITHDRAWN = "withdrawn", "withdrawn by its author"
        SUPERSEDED = "superseded", "superseded by another proposal"

    class How(models.TextChoices):
        CONTINUE = "continue"
        CORRECT = "correct"

    tariff = models.ForeignKey(
        "billing.Tariff", models.PROTECT, null=True, blank=True, related_name="proposals"
    )
    subscription = models.ForeignKey(
        "billing.Subscription", models.PROTECT, null=True, blank=True, related_name="proposals"
    )
    how = models.CharField(max_length=8, choices=How.choices)
    valid_from = models.DateTimeField()
    document = models.JSONField()
    digest = models.CharField(max_length=64, help_text="SHA-256 of what would be published")
    after_number = models.PositiveIntegerField(
        help_text="the last version or terms published before: another one makes this stale"
    )
    source = models.CharField(max_length=200, blank=True, help_text="address or agreement")
    reason = models.CharField(max_length=500)
    changes = models.JSONField(help_text="what it changes, in sentences")
    jumps = models.JSONField(help_text="why it takes a second person")
    state = models.CharField(max_length=10, choices=State.choices, default=State.PROPOSED)
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="price_proposals"
    )
    proposed_at = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decision = models.CharField(max_length=500, blank=True, help_text="why it was decided so")

    class Meta:
        ordering = ["-proposed_at", "-id"]
        permissions = [
            ("publish_prices", "May publish prices, and propose those that take a second person"),
            ("approve_prices", "May approve prices that somebody else proposed"),
        ]
        constraints = [
            models.CheckConstraint(
                condition=Q(tariff=None, subscription__isnull=False)
                | Q(tariff__isnull=False, subscription=None),
                name="proposal_is_for_one_thing",
            ),
            models.CheckConstraint(
                condition=~Q(state="approved") | ~Q(decided_by=F("proposed_by")),
                name="proposal_is_approved_by_another",
            ),
            models.CheckConstraint(
                condition=Q(state="proposed", decided_by=None, decided_at=None)
                | (~Q(state="proposed") & Q(decided_by__isnull=False, decided_at__isnull=False)),
                name="proposal_decided_says_by_whom",
            ),
            models.UniqueConstraint(
                fields=["tariff"],
                condition=Q(state="proposed"),
                name="proposal_one_open_per_tariff",
            ),
            models.UniqueConstraint(
                fields=["subscription"],
                condition=Q(state="proposed"),
                name="proposal_one_open_per_subscription",
            ),
        ]

    def __str__(self) -> str:
        return f"Proposal {self.pk}"
