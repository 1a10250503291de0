"""Quotas: how far they are used, who is told, and that they are told once."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail

from accounts.models import AuditEntry, Organization, Role, User
from billing import allowance, quota_mail
from billing.models import Quota, QuotaAlert
from tests import build

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)


@pytest.fixture
def quota(acme: Organization, alice: User) -> Quota:
    return allowance.set_quota(acme, 1_000, actor=alice)


def use(organization: Organization, quantity: int, **what: object) -> None:
    build.make_reading(
        organization=organization, **{"starts_at": NOON, "quantity": quantity, **what}
    )


def alerts(quota: Quota) -> list[tuple[int, int | None]]:
    return list(quota.alerts.order_by("percent").values_list("percent", "covered_by"))


def test_standing_says_what_is_used_and_left(acme: Organization, quota: Quota) -> None:
    use(acme, 300)
    use(acme, 50, register="output")
    use(acme, 900, register="requests")
    (standing,) = allowance.standing(acme, NOON)
    assert (standing.used, standing.left, standing.percent) == (350, 650, 35)


def test_a_quota_of_a_project_counts_that_project_alone(acme: Organization, alice: User) -> None:
    chat = build.make_project(organization=acme, slug="chat")
    allowance.set_quota(acme, 1_000, actor=alice)
    allowance.set_quota(acme, 100, project=chat, actor=alice)
    use(acme, 300)
    use(acme, 40, project=chat)
    assert [(one.quota.project, one.used) for one in allowance.standing(acme, NOON)] == [
        (None, 340),
        (chat, 40),
    ]


def test_the_month_is_the_organizations_own(alice: User) -> None:
    shanghai = build.make_organization(
        name="Shanghai", slug="shanghai", owner=alice, zone="Asia/Shanghai"
    )
    allowance.set_quota(shanghai, 1_000, actor=alice)
    november = datetime(2026, 10, 31, 16, tzinfo=UTC)
    use(shanghai, 7, starts_at=november - timedelta(minutes=15))
    use(shanghai, 11, starts_at=november)
    (before,) = allowance.standing(shanghai, november - timedelta(seconds=1))
    (after,) = allowance.standing(shanghai, november)
    assert (before.used, after.used) == (7, 11)


def test_below_half_nobody_is_told(acme: Organization, quota: Quota) -> None:
    use(acme, 499)
    allowance.watch(NOON)
    assert mail.outbox == []
    assert alerts(quota) == []


def test_each_threshold_is_mailed_once(acme: Organization, quota: Quota) -> None:
    use(acme, 500)
    allowance.watch(NOON)
    allowance.watch(NOON + timedelta(minutes=5))
    use(acme, 300)
    allowance.watch(NOON + timedelta(minutes=6))
    allowance.watch(NOON + timedelta(minutes=7))
    use(acme, 900)
    allowance.watch(NOON + timedelta(minutes=8))
    allowance.watch(NOON + timedelta(days=2))
    assert [message.subject for message in mail.outbox] == [
        "50 % of the November 2026 quota of Acme is used",
        "80 % of the November 2026 quota of Acme is used",
        "100 % of the November 2026 quota of Acme is used",
    ]
    assert "700 tokens over the quota" in mail.outbox[-1].body
    assert not quota.alerts.filter(mailed_at=None).exists()


def test_of_several_thresholds_crossed_at_once_the_highest_is_mailed_and_speaks_for_the_others(
    acme: Organization, quota: Quota
) -> None:
    use(acme, 900)
    allowance.watch(NOON)
    (message,) = mail.outbox
    assert message.subject.startswith("80 %")
    assert "50 % was crossed since the last look as well" in message.body
    assert alerts(quota) == [(50, 80), (80, None)]
    allowance.watch(NOON + timedelta(hours=1))
    assert len(mail.outbox) == 1


def test_owners_admins_and_billing_members_are_told_and_nobody_else(
    acme: Organization, quota: Quota
) -> None:
    for role in (Role.ADMIN, Role.BILLING, Role.DEVELOPER):
        user = build.make_user(email=f"{role}@acme.example")
        build.make_member(organization=acme, user=user, role=role)
    use(acme, 1_000)
    allowance.watch(NOON)
    (message,) = mail.outbox
    assert message.to == ["admin@acme.example", "alice@acme.example", "billing@acme.example"]


def test_a_mail_that_was_not_sent_is_found_again(
    acme: Organization, quota: Quota, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(acme, 1_000)

    def crash(alert: QuotaAlert) -> bool:
        raise ConnectionError("mail server away")

    with monkeypatch.context() as broken:
        broken.setattr(quota_mail, "send", crash)
        with pytest.raises(ConnectionError):
            allowance.watch(NOON)
    assert alerts(quota) == [(50, 100), (80, 100), (100, None)]
    allowance.watch(NOON + timedelta(seconds=59))
    assert mail.outbox == []
    allowance.watch(NOON + timedelta(seconds=61))
    allowance.watch(NOON + timedelta(seconds=180))
    assert len(mail.outbox) == 1


def test_who_joins_later_is_told_what_nobody_was_there_to_hear(quota: Quota) -> None:
    lonely = build.make_organization(name="Lonely", slug="lonely")
    allowance.set_quota(lonely, 10, actor=None)
    use(lonely, 10)
    allowance.watch(NOON)
    assert mail.outbox == []
    owner = build.make_user(email="late@lonely.example")
    build.make_member(organization=lonely, user=owner, role=Role.OWNER)
    allowance.watch(NOON + timedelta(minutes=2))
    assert [message.to for message in mail.outbox] == [["late@lonely.example"]]


def test_a_new_month_and_a_raised_limit_warn_anew(
    acme: Organization, quota: Quota, alice: User
) -> None:
    use(acme, 1_000)
    allowance.watch(NOON)
    assert allowance.set_quota(acme, 2_000, actor=alice) == quota
    allowance.watch(NOON + timedelta(minutes=1))
    use(acme, 1_000, starts_at=NOON + timedelta(days=30))
    allowance.watch(NOON + timedelta(days=30))
    assert [message.subject[:4] for message in mail.outbox] == ["100 ", "50 %", "50 %"]


def test_each_change_of_a_quota_is_audited(acme: Organization, alice: User) -> None:
    quota = allowance.set_quota(acme, 1_000, actor=alice)
    allowance.set_quota(acme, 2_000, actor=alice)
    assert allowance.remove_quota(quota, actor=alice)
    assert not allowance.remove_quota(quota, actor=alice)
    entries = AuditEntry.objects.filter(action__startswith="quota").order_by("pk")
    assert [(entry.action, entry.actor, entry.detail) for entry in entries] == [
        ("quota.set", alice, {"before": None, "after": 1_000}),
        ("quota.set", alice, {"before": 1_000, "after": 2_000}),
        ("quota.removed", alice, {"before": 2_000}),
    ]
    assert allowance.standing(acme, NOON) == []


@pytest.mark.parametrize("tokens", [0, -1, 10**18 + 1])
def test_a_quota_is_a_sane_number_of_tokens(acme: Organization, tokens: int) -> None:
    with pytest.raises(allowance.QuotaRefused):
        allowance.set_quota(acme, tokens, actor=None)


def test_a_quota_names_a_project_of_its_own_organization(
    acme: Organization, globex: Organization
) -> None:
    with pytest.raises(allowance.QuotaRefused, match="another organization"):
        allowance.set_quota(acme, 10, project=globex.projects.get(), actor=None)
