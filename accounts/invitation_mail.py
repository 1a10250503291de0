"""The mail that carries an invitation. The secret stands in it, and nowhere else."""

from __future__ import annotations

from django.conf import settings
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string

from accounts.models import Invitation


def address_of(secret: str) -> str:
    """Where an invitation is accepted."""
    return f"{settings.PUBLIC_URL.rstrip('/')}/invitations/{secret}/"


def send(invitation: Invitation, secret: str) -> None:
    """Mail it. Called after COMMIT: an invitation that was rolled back is never sent."""
    context = {"invitation": invitation, "address": address_of(secret)}
    message = EmailMultiAlternatives(
        subject=" ".join(render_to_string("mail/invitation.subject.txt", context).split()),
        body=render_to_string("mail/invitation.txt", context),
        to=[invitation.email],
    )
    message.attach_alternative(render_to_string("mail/invitation.html", context), "text/html")
    message.send()
