"""What we say to django-allauth: sign-up, sign-in and reset by e-mail address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest
from django.urls import reverse

FILE_MAIL = "django.core.mail.backends.filebased.EmailBackend"


class Adapter(DefaultAccountAdapter):
    """Links lead to PUBLIC_URL, whatever host a request claims to be for."""

    def format_email_subject(self, subject: str) -> str:
        """As it is: the sender's name says who we are."""
        return subject

    def get_email_confirmation_url(self, request: HttpRequest, emailconfirmation: Any) -> str:
        """Where an address is confirmed."""
        return public(reverse("account_confirm_email", args=[emailconfirmation.key]))

    def get_reset_password_from_key_url(self, key: str) -> str:
        """Where a new password is chosen."""
        path = reverse("account_reset_password_from_key", kwargs={"uidb36": "UID", "key": "KEY"})
        return public(path.replace("UID-KEY", key))

    def send_account_already_exists_mail(self, email: str) -> None:
        """Tell the owner of the address by mail what the page must not tell a stranger."""
        context = {
            "signup_url": public(reverse("account_signup")),
            "password_reset_url": public(reverse("account_reset_password")),
        }
        self.send_mail("account/email/account_already_exists", email, context)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Send; on a machine of one's own, say where the mail lies."""
        context = {**context, "public_url": public("")}
        if "signup_url" in context:
            context["signup_url"] = public(reverse("account_signup"))
        super().send_mail(template_prefix, email, context)
        if settings.EMAIL_BACKEND == FILE_MAIL and self.request is not None:
            folder = getattr(settings, "EMAIL_FILE_PATH", "")  # there with this backend alone
            say = f"This machine sends no mail: it writes it to files in {folder}."
            messages.info(self.request, f"{say} Open the newest one.")

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """The portal; for staff without an organization, the console."""
        user = request.user
        if user.is_staff and not user.memberships.exists():
            return reverse("admin:index")
        return str(super().get_login_redirect_url(request))

    def get_email_verification_redirect_url(self, email_address: EmailAddress) -> str:
        """On to sign-in: whoever opens the link has proved the address, not the password."""
        if self.request.user.is_authenticated:
            return self.get_login_redirect_url(self.request)
        return reverse("account_login")


def public(path: str) -> str:
    """An absolute address of ours, from the settings and not from the request."""
    return f"{settings.PUBLIC_URL.rstrip('/')}{path}"


def name_tried(request: HttpRequest, credentials: Mapping[str, Any] | None) -> str | None:
    """Under which name django-axes counts a failed sign-in: the address, in lower case."""
    given = credentials or {}
    name = given.get("email") or given.get("username") or request.POST.get("login")
    return str(name).strip().lower() if name else None
