"""How much it costs: tariffs, subscriptions, invoices and quotas.

Amounts on documents are whole minor units of the document's currency (cents, yen, fils); exact
amounts before rounding have scale 18: 12 decimals of a price and 6 of what it is per. What was
issued or published is frozen by triggers (migration 0002).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.contrib.postgres.constraints import ExclusionConstraint
from django.contrib.postgres.fields import RangeOperators
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now

from accounts.models import Organization, Project
from billing.book import NegotiatedTerms, PriceProposal
from billing.comparisons import ComparedOrganization, Comparison
from billing.costbook import CatalogModel, CostImport, CostProposal, ModelAlias, ProviderCost
from billing.instants import InstantRange
from billing.rerated import ReratingItem, ReratingJob

__all__ = [
    "CatalogModel",
    "ComparedOrganization",
    "Comparison",
    "CostImport",
    "CostProposal",
    "Invoice",
    "InvoiceLine",
    "InvoiceQuerySet",
    "InvoiceSeries",
    "ModelAlias",
    "NegotiatedTerms",
    "PriceProposal",
    "ProviderCost",
    "Quota",
    "QuotaAlert",
    "ReratingItem",
    "ReratingJob",
    "Subscription",
    "Tariff",
    "TariffVersion",
]

if TYPE_CHECKING:
    from accounts.models import User


class Tariff(models.Model):
    """What usage costs; its terms are in versions."""

    code = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=120)
    description = models.TextField(blank=True)
    currency = models.CharField(max_length=3)
    offered = models.BooleanField(
        default=False,
        help_text="every organization may see its prices and ask what it would pay on it",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering = ["code"]
        constraints = [
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[A-Z]{3}$"), name="tariff_currency_is_iso"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class TariffVersion(models.Model):
    """The terms of a tariff from an instant on; never edited. A correction is a new version, which
    shortens or withdraws those it replaces (`billing.catalog`)."""

    tariff = models.ForeignKey(Tariff, models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    valid_from = models.DateTimeField()
    valid_to = models.DateTimeField(null=True, blank=True, help_text="empty: until further notice")
    known_at = models.DateTimeField(db_default=Now())
    withdrawn_at = models.DateTimeField(
        null=True, blank=True, help_text="when a correction replaced the whole of it"
    )
    document = models.JSONField(help_text="docs/reference/tariff.md says what may stand here")
    source = models.URLField(blank=True, help_text="where the price was published")

    class Meta:
        ordering = ["tariff", "number"]
        constraints = [
            models.UniqueConstraint(fields=["tariff", "number"], name="tariff_version_number_once"),
            models.CheckConstraint(
                condition=Q(valid_to=None) | Q(valid_to__gt=F("valid_from")),
                name="tariff_version_runs_forward",
            ),
            ExclusionConstraint(
                name="tariff_versions_never_overlap",
                expressions=[
                    ("tariff", RangeOperators.EQUAL),
                    (InstantRange("valid_from", "valid_to"), RangeOperators.OVERLAPS),
                ],
                condition=Q(withdrawn_at=None),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.tariff.code}@{self.number}"


class Subscription(models.Model):
    """Which tariff an organization is on, since when, and on which day its periods begin."""

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="subscriptions")
    tariff = models.ForeignKey(Tariff, models.PROTECT, related_name="subscriptions")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField(null=True, blank=True)
    anchor_day = models.PositiveSmallIntegerField(
        default=1, help_text="1 to 31; clamped to the length of the month"
    )
    zone = models.CharField(max_length=64, help_text="IANA time zone the periods are cut in")
    grace_hours = models.PositiveSmallIntegerField(
        default=0, help_text="how long a period stays open for late usage after its end"
    )
    next_close_at = models.DateTimeField(
        null=True, db_index=True, help_text="when the next period can be closed; empty: all are"
    )

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(anchor_day__gte=1, anchor_day__lte=31),
                name="subscription_anchor_is_a_day",
            ),
            models.CheckConstraint(
                condition=Q(ends_at=None) | Q(ends_at__gt=F("starts_at")),
                name="subscription_runs_forward",
            ),
            ExclusionConstraint(
                name="subscription_one_at_a_time",
                expressions=[
                    ("organization", RangeOperators.EQUAL),
                    (InstantRange("starts_at", "ends_at"), RangeOperators.OVERLAPS),
                ],
            ),
        ]

    def __str__(self) -> str:
        return f"{self.organization} on {self.tariff}"


class SystemPeak(models.Model):
    """When all organizations together used most in a billing period; found once and kept."""

    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    window_minutes = models.PositiveSmallIntegerField()
    step_minutes = models.PositiveSmallIntegerField()
    starts_at = models.DateTimeField()  # of the window
    tokens = models.DecimalField(max_digits=30, decimal_places=0)  # that were used in it
    found_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["period_start", "period_end", "window_minutes", "step_minutes"],
                name="system_peak_is_found_once",
            ),
            models.CheckConstraint(
                condition=Q(starts_at__gte=F("period_start"), starts_at__lt=F("period_end")),
                name="system_peak_lies_in_its_period",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.starts_at:%Y-%m-%d %H:%M} of {self.period_start:%Y-%m-%d}"


class InvoiceSeries(models.Model):
    """The counter row that gapless numbers of documents come from, one per prefix and year."""

    prefix = models.CharField(max_length=16)
    year = models.PositiveSmallIntegerField()
    last_number = models.PositiveIntegerField(default=0)
    last_issued_at = models.DateTimeField(help_text="numbers rise in the order of issue")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["prefix", "year"], name="invoice_series_once"),
        ]

    def __str__(self) -> str:
        return f"{self.prefix}-{self.year}"


class InvoiceQuerySet(models.QuerySet["Invoice"]):
    def visible_to(self, user: User) -> InvoiceQuerySet:
        """The one door between a signed-in person and invoices: members, and never a draft."""
        return self.filter(organization__members__user=user).exclude(status=Invoice.Status.DRAFT)


class Invoice(models.Model):
    """What a period costs, less what earlier documents carry. Frozen when issued.

    A credit or a debit note corrects an invoice: it carries what the invoice's period costs by now
    less than was billed, or more. Its amounts have their sign, so that documents add up.
    """

    class Kind(models.TextChoices):
        INVOICE = "invoice", "Invoice"
        CREDIT_NOTE = "credit_note", "Credit note"
        DEBIT_NOTE = "debit_note", "Debit note"

    class Status(models.TextChoices):
        DRAFT = "draft"
        ISSUED = "issued"
        VOID = "void"

    organization = models.ForeignKey(Organization, models.PROTECT, related_name="invoices")
    subscription = models.ForeignKey(Subscription, models.PROTECT, related_name="invoices")
    kind = models.CharField(max_length=11, choices=Kind.choices, default=Kind.INVOICE)
    corrects = models.ForeignKey(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="notes",
        help_text="the invoice that a credit or debit note is of",
    )
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.DRAFT)
    number = models.CharField(max_length=32, unique=True, null=True, blank=True)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    currency = models.CharField(max_length=3)
    zone = models.CharField(max_length=64)
    seller = models.JSONField(default=dict, help_text="name, address, tax id as issued")
    buyer = models.JSONField(default=dict, help_text="name, address, tax id as issued")
    subtotal_minor = models.BigIntegerField(default=0)
    tax_minor = models.BigIntegerField(default=0)
    total_minor = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    issued_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    voided_at = models.DateTimeField(null=True, blank=True)
    void_reason = models.TextField(blank=True)
    replaces = models.OneToOneField(
        "self",
        models.PROTECT,
        null=True,
        blank=True,
        related_name="replaced_by",
        help_text="the void document whose period this one bills again",
    )

    objects = InvoiceQuerySet.as_manager()

    class Meta:
        ordering = ["-period_end", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=Q(period_start__lt=F("period_end")), name="invoice_period_runs_forward"
            ),
            models.CheckConstraint(
                condition=Q(total_minor=F("subtotal_minor") + F("tax_minor")),
                name="invoice_total_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(status="draft", number=None, issued_at=None)
                | (~Q(status="draft") & Q(number__isnull=False, issued_at__isnull=False)),
                name="invoice_issued_has_number",
            ),
            ExclusionConstraint(
                name="invoice_one_per_period",
                expressions=[
                    ("subscription", RangeOperators.EQUAL),
                    (InstantRange("period_start", "period_end"), RangeOperators.OVERLAPS),
                ],
                condition=Q(kind="invoice") & ~Q(status="void"),
            ),
            models.CheckConstraint(
                condition=Q(kind="invoice", corrects=None)
                | (~Q(kind="invoice") & Q(corrects__isnull=False, replaces=None)),
                name="note_names_what_it_corrects",
            ),
            models.CheckConstraint(
                condition=Q(kind="invoice")
                | Q(kind="credit_note", subtotal_minor__lt=0)
                | Q(kind="debit_note", subtotal_minor__gt=0),
                name="note_is_of_its_sign",
            ),
        ]

    def __str__(self) -> str:
        return self.number or f"draft {self.pk}"

    @property
    def is_note(self) -> bool:
        """Whether it corrects an invoice, instead of being a period's own document."""
        return self.kind != self.Kind.INVOICE


class InvoiceLine(models.Model):
    """One rated line, rounded once. `usage_*` are the billing period the usage belongs to: a line
    for late usage of an earlier period stands on a later invoice."""

    # `line_position_once` begins with it, so it needs no index of its own.
    invoice = models.ForeignKey(Invoice, models.CASCADE, related_name="lines", db_index=False)
    position = models.PositiveIntegerField()
    usage_start = models.DateTimeField()
    usage_end = models.DateTimeField()
    version = models.CharField(max_length=80, help_text="the tariff version, code@number")
    component = models.CharField(max_length=120)
    model = models.CharField(max_length=200, blank=True, help_text="empty: of no model")
    register = models.CharField(max_length=40)
    bucket = models.CharField(max_length=40, blank=True)
    step = models.PositiveSmallIntegerField(default=0)
    description = models.CharField(max_length=300)
    quantity = models.BigIntegerField(
        help_text="in the register's unit; negative where usage was corrected"
    )
    unit_price = models.DecimalField(
        max_digits=24,
        decimal_places=12,
        null=True,
        blank=True,
        help_text="empty: several prices, each with its quantity in the trace's parts",
    )
    per = models.BigIntegerField(help_text="how many units the unit price is for")
    amount_exact = models.DecimalField(max_digits=60, decimal_places=18)
    amount_minor = models.BigIntegerField()
    trace = models.JSONField(help_text="version, component, bucket, step and rule, with numbers")

    class Meta:
        ordering = ["invoice", "position"]
        constraints = [
            models.UniqueConstraint(fields=["invoice", "position"], name="line_position_once"),
            models.CheckConstraint(
                condition=Q(usage_start__lt=F("usage_end")), name="line_usage_runs_forward"
            ),
            models.CheckConstraint(
                condition=Q(unit_price=None, trace__has_key="parts")
                | Q(
                    unit_price__isnull=False,
                    unit_price__gte=0,
                    unit_price__lt=1_000_000_000_000,
                )
                | Q(
                    unit_price__isnull=False,
                    unit_price__gt=-1_000_000_000_000,
                    unit_price__lt=0,
                    trace__contains={"shape": "price_series"},
                ),
                name="line_price_is_sane",
            ),
        ]

    def __str__(self) -> str:
        return self.description


class Quota(models.Model):
    """A monthly limit in tokens, for a whole organization or one project.

    The month is the calendar month in the organization's zone.
    """

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="quotas")
    project = models.ForeignKey(
        Project, models.CASCADE, null=True, blank=True, related_name="quotas"
    )
    tokens_per_month = models.BigIntegerField()
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "project"], name="quota_once", nulls_distinct=False
            ),
            models.CheckConstraint(condition=Q(tokens_per_month__gt=0), name="quota_is_positive"),
        ]

    def __str__(self) -> str:
        return f"{self.tokens_per_month} tokens a month for {self.project or self.organization}"


class QuotaAlert(models.Model):
    """One threshold of one limit crossed in one month; claimed before its mail is sent.

    Of thresholds found crossed at the same look the highest is mailed; the others name it.
    """

    quota = models.ForeignKey(Quota, models.CASCADE, related_name="alerts")
    month_start = models.DateTimeField()
    tokens_per_month = models.BigIntegerField(help_text="the limit as it was then")
    percent = models.PositiveSmallIntegerField()
    tokens_used = models.BigIntegerField()
    covered_by = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="the higher percent whose mail speaks for this one"
    )
    recorded_at = models.DateTimeField()
    claimed_at = models.DateTimeField(help_text="when a sender last took it on")
    mailed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["quota", "month_start", "tokens_per_month", "percent"],
                name="quota_alert_once",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.percent} % of {self.quota}"
