"""Who: people, organizations, what they may do, and the keys their machines sign with."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower, Now


class UserManager(BaseUserManager["User"]):
    """Creates people by e-mail address; there are no user names."""

    def create_user(self, email: str, password: str | None = None, **fields: object) -> User:
        user = User(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)


class User(AbstractUser):
    """A person who signs in with an e-mail address. What they may do is said by Member."""

    username = None  # type: ignore[assignment]
    email = models.EmailField(unique=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()  # type: ignore[assignment]

    class Meta(AbstractUser.Meta):
        constraints = [
            models.CheckConstraint(
                condition=Q(email=Lower("email")), name="user_email_is_lower_case"
            ),
        ]


class OrganizationQuerySet(models.QuerySet["Organization"]):
    def visible_to(self, user: User) -> OrganizationQuerySet:
        """The one door between a signed-in person and organizations."""
        return self.filter(members__user=user)


class Organization(models.Model):
    """Who pays and whose data it is."""

    class State(models.TextChoices):
        ACTIVE = "active"
        SUSPENDED = "suspended"

    slug = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=200)
    currency = models.CharField(max_length=3)
    zone = models.CharField(max_length=64, help_text="IANA time zone: days and months begin here")
    state = models.CharField(max_length=16, choices=State.choices, default=State.ACTIVE)
    billing_name = models.CharField(max_length=200, blank=True)
    billing_email = models.EmailField(blank=True)
    address_line1 = models.CharField(max_length=200, blank=True)
    address_line2 = models.CharField(max_length=200, blank=True)
    postal_code = models.CharField(max_length=32, blank=True)
    city = models.CharField(max_length=120, blank=True)
    country = models.CharField(max_length=2, blank=True, help_text="ISO 3166-1 alpha-2")
    tax_id = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = OrganizationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(currency__regex=r"^[A-Z]{3}$"), name="organization_currency_is_iso"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    """What a member may do; `accounts.permissions` says it action by action."""

    OWNER = "owner"
    ADMIN = "admin"
    BILLING = "billing"
    DEVELOPER = "developer"
    VIEWER = "viewer"


class Member(models.Model):
    """A person in an organization."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="members")
    user = models.ForeignKey(User, models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=16, choices=Role.choices)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="member_once"),
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.organization} as {self.role}"


class Invitation(models.Model):
    """An offer of membership to an e-mail address; single use, hashed at rest."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="invitations")
    email = models.EmailField()
    role = models.CharField(max_length=16, choices=Role.choices)
    digest = models.BinaryField(max_length=32, unique=True)
    invited_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "email"],
                condition=Q(accepted_at=None, revoked_at=None),
                name="invitation_one_open_per_email",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} to {self.organization}"


class Project(models.Model):
    """A workspace inside an organization: cost split, keys, quotas."""

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="projects")
    slug = models.SlugField(max_length=63)
    name = models.CharField(max_length=120)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    archived_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["slug"]
        constraints = [
            models.UniqueConstraint(fields=["organization", "slug"], name="project_slug_once"),
        ]

    def __str__(self) -> str:
        return self.name


class ApiKey(models.Model):
    """What a machine signs with. The secret is shown once; a keyed digest is kept."""

    class Scope(models.TextChoices):
        INGEST = "ingest"
        READ = "read"
        GATEWAY = "gateway"
        MANAGE = "manage"

    organization = models.ForeignKey(Organization, models.CASCADE, related_name="api_keys")
    project = models.ForeignKey(
        Project, models.CASCADE, null=True, blank=True, related_name="api_keys"
    )
    name = models.CharField(max_length=120)
    prefix = models.CharField(max_length=16, unique=True, help_text="names the key; not secret")
    digest = models.BinaryField(max_length=32)
    scopes = ArrayField(models.CharField(max_length=16, choices=Scope.choices))
    created_by = models.ForeignKey(User, models.SET_NULL, null=True, blank=True, related_name="+")
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    # What it may report a second; absent is what the settings say.
    events_per_s_max = models.PositiveIntegerField(null=True, blank=True)
    bytes_per_s_max = models.PositiveBigIntegerField(null=True, blank=True)
    # What staff allow: members may ask for less, and for no more.
    events_per_s_cap = models.PositiveIntegerField(null=True, blank=True)
    bytes_per_s_cap = models.PositiveBigIntegerField(null=True, blank=True)
    request_id = models.CharField(
        max_length=64, blank=True, default="", help_text="what asked for it; asked twice, made once"
    )

    class Meta:
        verbose_name = "API key"
        constraints = [
            models.CheckConstraint(
                condition=Q(events_per_s_max=None) | Q(events_per_s_max__gt=0),
                name="api_key_events_limit_is_positive",
            ),
            models.CheckConstraint(
                condition=Q(bytes_per_s_max=None) | Q(bytes_per_s_max__gt=0),
                name="api_key_bytes_limit_is_positive",
            ),
            models.CheckConstraint(
                condition=Q(events_per_s_cap=None)
                | Q(events_per_s_max__isnull=False, events_per_s_max__lte=F("events_per_s_cap")),
                name="api_key_events_limit_within_cap",
            ),
            models.CheckConstraint(
                condition=Q(bytes_per_s_cap=None)
                | Q(bytes_per_s_max__isnull=False, bytes_per_s_max__lte=F("bytes_per_s_cap")),
                name="api_key_bytes_limit_within_cap",
            ),
            models.UniqueConstraint(
                fields=["organization", "request_id"],
                condition=~Q(request_id=""),
                name="api_key_once_per_request",
            ),
            models.CheckConstraint(condition=~Q(scopes__len=0), name="api_key_has_scope"),
            models.CheckConstraint(
                condition=Q(expires_at=None) | Q(expires_at__gt=F("created_at")),
                name="api_key_expires_after_creation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class AuditEntry(models.Model):
    """Who did what to whom, when. Append-only: the database refuses change and removal."""

    organization = models.ForeignKey(
        Organization, models.PROTECT, null=True, related_name="audit_entries"
    )
    actor = models.ForeignKey(User, models.PROTECT, null=True, related_name="+")
    actor_label = models.CharField(max_length=254, help_text="as it read then")
    action = models.CharField(max_length=64)
    subject = models.CharField(max_length=254)
    detail = models.JSONField(default=dict)
    recorded_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name_plural = "audit log"
        ordering = ["-id"]
        indexes = [models.Index(fields=["organization", "-id"], name="audit_by_organization")]

    def __str__(self) -> str:
        return f"{self.actor_label} {self.action} {self.subject}"
