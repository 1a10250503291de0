"""`manage.py rerate`: rate billed periods anew, show what they are off by, issue the notes."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import Organization, User
from billing import rerated_sums, rerating, spreadsheet
from billing.management.commands.what_if import day
from billing.models import ReratingItem, ReratingJob, Tariff
from billing.rating.money import from_minor
from billing.rerating import ReratingRefused

SHOWN_MAX = 20
MAY_START, MAY_APPROVE = "billing.publish_prices", "billing.approve_prices"


class Command(BaseCommand):
    help = "Rate billed periods by the rules known now, and correct their invoices by notes."

    def add_arguments(self, parser: ArgumentParser) -> None:
        steps = parser.add_subparsers(dest="step", required=True)
        start = steps.add_parser("start", help="compare, and issue nothing yet")
        start.add_argument("--from", dest="first", required=True, type=day, help="a local date")
        start.add_argument("--to", dest="last", required=True, type=day, help="excluded")
        start.add_argument("--tariff", help="a tariff's code; all of them if left out")
        start.add_argument("--organization", action="append", default=[], help="a slug; repeatable")
        start.add_argument("--reason", required=True, help="whoever approves it reads it")
        for name, what in (("show", "what was found"), ("work", "go on with what is left")):
            steps.add_parser(name, help=what).add_argument("job", type=int)
        steps.choices["show"].add_argument("--format", choices=("table", "csv"), default="table")
        approve = steps.add_parser("approve", help="issue what was shown")
        approve.add_argument("--digest", required=True, help="as it was shown")
        approve.add_argument("--comment", default="")
        refuse = steps.add_parser("refuse", help="issue nothing")
        refuse.add_argument("--comment", required=True, help="why")
        for decided in (approve, refuse):
            decided.add_argument("job", type=int)
        for acting in (start, approve, refuse):
            acting.add_argument("--by", required=True, help="the address of the person who acts")

    def handle(self, *args: object, **options: Any) -> None:
        steps = {
            "start": self._start, "show": self._show, "work": self._work,
            "approve": self._approve, "refuse": self._refuse,
        }  # fmt: skip
        try:
            steps[options["step"]](options)
        except ReratingRefused as refused:
            raise CommandError(str(refused)) from None

    def _start(self, options: dict[str, Any]) -> None:
        job = rerating.start(
            options["first"],
            options["last"],
            tariff=_tariff(options["tariff"]),
            organizations=[_organization(slug) for slug in options["organization"]],
            reason=options["reason"],
            actor=_person(options["by"], MAY_START),
            now=timezone.now(),
        )
        self._tell(rerating.work(job.pk, timezone.now))

    def _show(self, options: dict[str, Any]) -> None:
        job = _job(options["job"])
        if options["format"] == "csv":
            for line in spreadsheet.lines(rerated_sums.rows(job)):
                self.stdout.write(line, ending="")
        else:
            self._tell(job)

    def _work(self, options: dict[str, Any]) -> None:
        self._tell(rerating.work(_job(options["job"]).pk, timezone.now))

    def _approve(self, options: dict[str, Any]) -> None:
        rerating.approve(
            _job(options["job"]).pk,
            digest=options["digest"],
            comment=options["comment"],
            actor=_person(options["by"], MAY_APPROVE),
            now=timezone.now(),
        )
        self._tell(rerating.work(options["job"], timezone.now))

    def _refuse(self, options: dict[str, Any]) -> None:
        rerating.refuse(
            _job(options["job"]).pk,
            comment=options["comment"],
            actor=_person(options["by"], MAY_APPROVE),
            now=timezone.now(),
        )
        self._tell(_job(options["job"]))

    def _tell(self, job: ReratingJob) -> None:
        for line in _table(job):
            self.stdout.write(line)


def _job(pk: int) -> ReratingJob:
    job = ReratingJob.objects.filter(pk=pk).first()
    if job is None:
        raise CommandError(f"There is no re-rating {pk}.")
    return job


def _tariff(code: str | None) -> Tariff | None:
    if code is None:
        return None
    tariff = Tariff.objects.filter(code=code).first()
    if tariff is None:
        raise CommandError(f"There is no tariff {code}.")
    return tariff


def _organization(slug: str) -> Organization:
    found = Organization.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(f"There is no organization {slug}.")
    return found


def _person(email: str, permission: str) -> User:
    """The person who acts: whoever may do it in the console may do it here."""
    person = User.objects.filter(email=email, is_active=True, is_staff=True).first()
    if person is None or not person.has_perm(permission):
        raise CommandError(f"{email} is not staff with the permission {permission}.")
    return person


def _table(job: ReratingJob) -> Iterator[str]:
    yield f"{job}: {job.get_state_display().lower()}; {job.reason}"
    for sums in rerated_sums.of(job):
        money = [
            f"{from_minor(minor, sums.currency):f}"
            for minor in (sums.before_minor, sums.credits_minor, sums.debits_minor)
        ]
        yield (
            f"{sums.differ:,} of {sums.invoices:,} invoices in {sums.currency} differ: {money[0]} "
            f"billed, credits {money[1]}, debits {money[2]}, then "
            f"{from_minor(sums.after_minor, sums.currency):f}"
        )
    for title, items in (
        ("given back", rerated_sums.winners(job)),
        ("charged", rerated_sums.losers(job)),
        ("could not be rated", rerated_sums.failed(job)),
    ):
        for item in items[:SHOWN_MAX]:
            yield f"{title}: {_said(item)}"
    if job.state == ReratingJob.State.COMPARED:
        who = "a second person" if job.takes_second_person else "whoever may approve prices"
        yield f"It waits for {who}, with --digest {job.digest}"


def _said(item: ReratingItem) -> str:
    amounts = [
        f"{from_minor(minor, item.currency):f}"
        for minor in (item.before_minor, item.difference_minor, item.after_minor)
    ]
    return f"{item.organization.slug} {item.invoice} {' '.join(amounts)} {item.currency} " + (
        str(item.note or item.failure or item.state)
    )
