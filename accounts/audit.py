"""The audit log: one row per privileged change, in the transaction of the change."""

from __future__ import annotations

import json
from collections.abc import Mapping

from django.core.serializers.json import DjangoJSONEncoder

from accounts.keys import holds_secret
from accounts.models import AuditEntry, Organization, User


def record(
    action: str,
    *,
    subject: object,
    organization: Organization | None,
    actor: User | None,
    detail: Mapping[str, object] | None = None,
) -> None:
    """Append who did what. Call it inside the transaction that does it; never pass a secret."""
    document = json.dumps(dict(detail or {}), cls=DjangoJSONEncoder, ensure_ascii=False)
    assert not holds_secret(f"{subject} {document}"), "an audit row must not hold a key"
    AuditEntry.objects.create(
        organization=organization,
        actor=actor,
        actor_label=actor.email if actor else "system",
        action=action,
        subject=str(subject)[:254],
        detail=json.loads(document),
    )
