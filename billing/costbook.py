"""Rows of what upstreams charge and of the models they serve: dated, sourced, approved by a person.

An import proposes and changes nothing; costs only grow (triggers of migration 0006).
"""

from __future__ import annotations

from django.conf import settings
from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import ArrayField, RangeOperators
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from billing.instants import InstantRange


class CatalogModel(models.Model):
    """A model that is sold here: what it is called, what it can do, when it comes and goes.

    `provider` is whom it is bought from: its costs are that provider's.
    """

    name = models.CharField(max_length=200, unique=True, help_text="as events name it")
    provider = models.CharField(max_length=100, help_text="whom it is bought from")
    title = models.CharField(max_length=200, blank=True)
    context_tokens = models.PositiveIntegerField(null=True, blank=True)
    modalities = ArrayField(models.CharField(max_length=16), default=list, blank=True)
    released_on = models.DateField(null=True, blank=True)
    deprecated_on = models.DateField(null=True, blank=True)
    retired_on = models.DateField(null=True, blank=True)
    source = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["name"]
        verbose_name = "model"
        constraints = [
            models.CheckConstraint(
                condition=Q(deprecated_on=None)
                | Q(retired_on=None)
                | Q(retired_on__gte=F("deprecated_on")),
                name="catalog_model_retires_after_its_notice",
            ),
        ]

    def __str__(self) -> str:
        return self.name


class ModelAlias(models.Model):
    """Another name of one model. It suggests; usage is priced by the name it was reported with."""

    model = models.ForeignKey(CatalogModel, models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=200, unique=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "model aliases"

    def __str__(self) -> str:
        return self.name


class CostImport(models.Model):
    """One reading of somebody's list of upstream prices."""

    source = models.CharField(max_length=40)
    version = models.CharField(max_length=80, blank=True)
    digest = models.CharField(max_length=64, help_text="SHA-256 of what was read")
    imported_at = models.DateTimeField()
    imported_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    priced = models.PositiveIntegerField(help_text="prices in the list")
    faults = models.JSONField(default=list, help_text="entries that were not taken, and why")

    class Meta:
        ordering = ["-imported_at", "-id"]

    def __str__(self) -> str:
        return f"{self.source} {self.version or self.digest[:8]} of {self.imported_at:%Y-%m-%d}"


class CostProposal(models.Model):
    """One upstream price that an import found new or changed; a person decides.

    `jump` says why it takes somebody else than who imported it.
    """

    class State(models.TextChoices):
        PROPOSED = "proposed"
        APPROVED = "approved"
        REFUSED = "refused"
        SUPERSEDED = "superseded", "superseded by a later import"

    cost_import = models.ForeignKey(CostImport, models.PROTECT, related_name="proposals")
    source = models.CharField(max_length=40)
    provider = models.CharField(max_length=200)
    model = models.CharField(max_length=200)
    register = models.CharField(max_length=40)
    above = models.PositiveIntegerField(default=0, help_text="of a request's whole input")
    price = models.DecimalField(max_digits=24, decimal_places=12, help_text="USD a million")
    price_before = models.DecimalField(max_digits=24, decimal_places=12, null=True, blank=True)
    valid_from = models.DateTimeField()
    title = models.CharField(max_length=200, blank=True)
    context_tokens = models.PositiveIntegerField(null=True, blank=True)
    aliases = ArrayField(models.CharField(max_length=200), default=list, blank=True)
    jump = models.CharField(max_length=200, blank=True)
    state = models.CharField(max_length=10, choices=State.choices, default=State.PROPOSED)
    proposed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, blank=True, related_name="+"
    )
    decided_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["provider", "model", "register", "above"]
        constraints = [
            models.CheckConstraint(condition=Q(price__gte=0), name="cost_proposal_is_not_negative"),
            models.CheckConstraint(
                condition=~Q(state="approved") | Q(jump="") | ~Q(decided_by=F("proposed_by")),
                name="cost_jump_is_approved_by_another",
            ),
            models.CheckConstraint(
                condition=~Q(state__in=["approved", "refused"])
                | Q(decided_by__isnull=False, decided_at__isnull=False),
                name="cost_decided_says_by_whom",
            ),
            models.UniqueConstraint(
                fields=["source", "provider", "model", "register", "above"],
                condition=Q(state="proposed"),
                name="cost_one_open_per_source",
            ),
        ]

    def __str__(self) -> str:
        size = f" above {self.above:,}" if self.above else ""
        return f"{self.register} of {self.model} at {self.provider}{size}"


class ProviderCost(models.Model):
    """What an upstream charges for a million tokens, from an instant on; never edited."""

    provider = models.CharField(max_length=200)
    model = models.CharField(max_length=200)
    register = models.CharField(max_length=40)
    above = models.PositiveIntegerField(default=0, help_text="of a request's whole input")
    price = models.DecimalField(max_digits=24, decimal_places=12, help_text="USD a million")
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True, blank=True)
    known_at = models.DateTimeField(db_default=Now())
    withdrawn_at = models.DateTimeField(null=True, blank=True)
    proposal = models.OneToOneField(CostProposal, models.PROTECT, related_name="cost")

    class Meta:
        ordering = ["provider", "model", "register", "above", "valid_from"]
        verbose_name = "cost"
        constraints = [
            models.CheckConstraint(
                condition=Q(valid_to=None) | Q(valid_to__gt=F("valid_from")),
                name="cost_runs_forward",
            ),
            models.CheckConstraint(condition=Q(price__gte=0), name="cost_is_not_negative"),
            ExclusionConstraint(
                name="costs_never_overlap",
                expressions=[
                    ("provider", RangeOperators.EQUAL),
                    ("model", RangeOperators.EQUAL),
                    ("register", RangeOperators.EQUAL),
                    ("above", RangeOperators.EQUAL),
                    (InstantRange("valid_from", "valid_to"), RangeOperators.OVERLAPS),
                ],
                condition=Q(withdrawn_at=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.register} of {self.model} at {self.provider}"
