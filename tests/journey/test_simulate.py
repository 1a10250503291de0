"""Made-up usage goes the way of all usage, and the demo is made once, however often it is run."""

from __future__ import annotations

import re
import stat
import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from tests.journey.live import Live

DEMO_S_MAX = 90
AGE_S_MAX = 35 * 86_400


def test_a_simulation_sent_again_is_all_duplicates(live: Live):
    live.manage("create_organization", "Simulated")
    end = live.rows("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SSZ')")[0][0]
    options = (
        "simulate", "--organization", "simulated", "--days", 2, "--seed", 7, "--scale", "0.5",
        "--end", end,
    )  # fmt: skip
    first, second = _outcomes(live.manage(*options)), _outcomes(live.manage(*options))
    assert first["accepted"] > 500
    assert (first["conflicts"], first["rejected"]) == (0, 0)
    assert second["accepted"] == 0
    assert second["duplicates"] == first["accepted"] + first["duplicates"]
    assert live.rows(
        "SELECT count(*) FROM metering_event WHERE organization_id = "
        "(SELECT id FROM accounts_organization WHERE slug = 'simulated')"
    ) == [(first["accepted"],)]


def _outcomes(said: str) -> dict[str, int]:
    found = re.findall(r"([\d,]+) (accepted|duplicates|conflicts|rejected)", said)
    return {what: int(count.replace(",", "")) for count, what in found}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--days", "36"), "between 1 and 34"),
        (("--scale", "0"), "a number above 0"),
        (("--end", "tomorrow"), "is not an instant such as"),
    ],
)
def test_a_simulation_that_cannot_work_is_refused(options, complaint):
    with pytest.raises(CommandError, match=complaint):
        call_command("simulate", "--organization", "x", *options)


@pytest.fixture(scope="module")
def demo(live: Live) -> tuple[str, float]:
    began_at = time.monotonic()
    said = live.manage("demo")
    return said, time.monotonic() - began_at


def test_the_demo_is_ready_within_a_minute_and_a_half(demo: tuple[str, float]):
    assert demo[1] < DEMO_S_MAX


def test_the_demo_has_three_organizations_with_usage_and_an_issued_invoice_each(live: Live, demo):
    rows = live.rows(
        "SELECT organization.currency, organization.zone, count(DISTINCT invoice.id), "
        "       min(invoice.total_minor) > 0, "
        "       (SELECT count(*) FROM metering_event WHERE organization_id = organization.id), "
        "       (SELECT max(extract(epoch FROM received_at - occurred_at))::bigint "
        "          FROM metering_event WHERE organization_id = organization.id) "
        "FROM accounts_organization organization "
        "JOIN billing_invoice invoice ON invoice.organization_id = organization.id "
        "WHERE organization.name IN ('Northwind Robotics', 'Helios Analytics GmbH', "
        "'云岚科技 Yunlan') AND invoice.status = 'issued' GROUP BY organization.id ORDER BY 1"
    )
    assert [row[:2] for row in rows] == [
        ("CNY", "Asia/Shanghai"), ("EUR", "Europe/Berlin"), ("USD", "America/New_York")
    ]  # fmt: skip
    assert all(invoices >= 1 and is_positive for _, _, invoices, is_positive, *_ in rows)
    assert 40_000 < sum(row[4] for row in rows) < 80_000
    assert all(34 * 86_400 < row[5] < AGE_S_MAX for row in rows)


def test_one_quota_of_the_demo_is_nearly_used_up(live: Live, demo):
    said = live.manage(
        "shell", "--no-imports", "-c",
        "from django.utils import timezone\n"
        "from accounts.models import Organization\n"
        "from billing import allowance\n"
        "one = Organization.objects.get(name='Northwind Robotics')\n"
        "(standing,) = allowance.standing(one, timezone.now())\n"
        "print(standing.percent, standing.quota.tokens_per_month)",
    )  # fmt: skip
    percent, tokens = map(int, said.split())
    # In the first hours of a month little is used yet, and a quota has a least size.
    assert 84 <= percent <= 86 or tokens == 1_000_000


def test_the_demo_run_again_changes_nothing(live: Live, demo):
    count = "SELECT (SELECT count(*) FROM metering_event), (SELECT count(*) FROM billing_invoice)"
    before = live.rows(count)
    assert live.manage("demo") != ""
    assert live.rows(count) == before


def test_everybody_in_the_demo_can_sign_in_as_it_says(live: Live, demo):
    told = live.manage("demo", "--sign-ins")
    sign_ins = re.findall(r"^\s+(\S+@\S+)\s+(\S+)\s", told, re.MULTILINE)
    assert len(sign_ins) >= 9
    email, password = next(pair for pair in sign_ins if pair[0].endswith("northwind.example"))
    with live.signed_in(email, password) as browser:
        overview = browser.get("/o/northwind-robotics/")
        assert overview.status_code == 200
        assert "Northwind Robotics" in overview.text
    with live.signed_in(*sign_ins[0]) as browser:
        assert browser.get("/console/").status_code == 200


def test_the_demos_password_is_readable_by_its_owner_alone(live: Live, demo):
    path = Path(live.env["KILOTOKEN_HOME"]) / "secrets" / "demo_password"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_demo_that_was_interrupted_is_completed_by_the_next_run(live: Live, demo):
    """Without its mark of completion an organization is gone through again, and nothing doubles."""
    live.execute(
        "ALTER TABLE accounts_auditentry DISABLE TRIGGER USER; "
        "DELETE FROM accounts_auditentry WHERE action = 'demo.completed' "
        "AND subject = 'helios-analytics-gmbh'; "
        "ALTER TABLE accounts_auditentry ENABLE TRIGGER USER"
    )
    counts = "SELECT (SELECT count(*) FROM metering_event), (SELECT count(*) FROM billing_invoice)"
    before = live.rows(counts)
    said = live.manage("demo")
    outcomes = _outcomes(said)
    assert outcomes["accepted"] == 0
    assert outcomes["duplicates"] > 10_000
    assert live.rows(counts) == before
    completed = "SELECT count(*) FROM accounts_auditentry WHERE action = 'demo.completed'"
    assert live.rows(completed) == [(3,)]
