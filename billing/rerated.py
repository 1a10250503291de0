"""Rows of re-rating: a job over billed periods, and what each of them is off by.

Triggers (migration 0009) keep what was asked, shown and issued as it was.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import F, Q


class ReratingJob(models.Model):
    """Which billed periods are rated anew and why, who approved it, and how far it has come."""

    class State(models.TextChoices):
        COMPARING = "comparing", "Comparing"
        COMPARED = "compared", "Waits for approval"
        ISSUING = "issuing", "Issuing"
        DONE = "done", "Done"
        REFUSED = "refused", "Refused"
        WITHDRAWN = "withdrawn", "Withdrawn"

    tariff = models.ForeignKey(
        "billing.Tariff",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="reratings",
        help_text="only what was billed by it; empty: by any tariff",
    )
    organizations = models.ManyToManyField(
        "accounts.Organization",
        blank=True,
        related_name="reratings",
        help_text="only theirs; empty: of all",
    )
    first = models.DateField(help_text="periods that begin on this local day or later")
    last = models.DateField(help_text="and before this one")
    reason = models.CharField(max_length=500)
    state = models.CharField(max_length=10, choices=State.choices, default=State.COMPARING)
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of what is shown")
    takes_second_person = models.BooleanField(default=False)
    started_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="reratings"
    )
    started_at = models.DateTimeField()
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)
    decision = models.CharField(max_length=500, blank=True, help_text="why it was decided so")
    finished_at = models.DateTimeField(null=True, blank=True)
    worked_at = models.DateTimeField(help_text="when a worker last finished an organization of it")

    class Meta:
        ordering = ["-started_at", "-id"]
        verbose_name = "re-rating"
        constraints = [
            models.CheckConstraint(
                condition=Q(first__lt=F("last")), name="rerating_days_run_forward"
            ),
            models.CheckConstraint(condition=~Q(reason=""), name="rerating_says_why"),
            models.CheckConstraint(
                condition=~Q(state__in=["issuing", "refused", "withdrawn"])
                | Q(decided_by__isnull=False, decided_at__isnull=False),
                name="rerating_decided_says_by_whom",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["issuing", "done"])
                | Q(takes_second_person=False)
                | Q(decided_by=None)
                | ~Q(decided_by=F("started_by")),
                name="rerating_is_approved_by_another",
            ),
        ]

    def __str__(self) -> str:
        return f"Re-rating {self.pk}"


class ReratingItem(models.Model):
    """One invoice of a job: what its period was billed, and what it is off by.

    Amounts are whole minor units of the invoice's currency.
    """

    class State(models.TextChoices):
        WAITING = "waiting", "Not compared yet"
        UNCHANGED = "unchanged", "Unchanged"
        DIFFERS = "differs", "Differs"
        CHANGED = "changed", "Changed since it was approved"
        ISSUED = "issued", "Issued"
        VOID = "void", "Its invoice is void"
        FAILED = "failed", "Could not be rated"

    job = models.ForeignKey(ReratingJob, models.PROTECT, related_name="items")
    organization = models.ForeignKey("accounts.Organization", models.PROTECT, related_name="+")
    invoice = models.ForeignKey("billing.Invoice", models.PROTECT, related_name="reratings")
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=9, choices=State.choices, default=State.WAITING)
    before_minor = models.BigIntegerField(default=0, help_text="on all documents")
    difference_minor = models.BigIntegerField(default=0, help_text="below zero: to give back")
    lines = models.JSONField(default=list, help_text="what its note carries, as it is shown")
    digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of what is shown")
    failure = models.TextField(blank=True)
    note = models.OneToOneField(
        "billing.Invoice", models.PROTECT, null=True, blank=True, related_name="rerated_by"
    )

    class Meta:
        ordering = ["job", "id"]
        indexes = [
            models.Index(fields=["job", "state", "organization", "id"], name="rerating_item_claim"),
        ]
        constraints = [
            models.UniqueConstraint(fields=["job", "invoice"], name="rerating_item_once"),
            models.CheckConstraint(
                condition=Q(state="issued", note__isnull=False)
                | (~Q(state="issued") & Q(note=None)),
                name="rerating_item_issued_has_note",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.invoice} in re-rating {self.job_id}"

    @property
    def after_minor(self) -> int:
        """What its documents come to once its note is issued."""
        return self.before_minor + self.difference_minor
