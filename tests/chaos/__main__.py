"""Send usage while everything is killed in turn, then count. See README.md beside this file."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
os.environ.update(INGEST_EVENTS_PER_S="0", INGEST_BYTES_PER_S="0")  # two keys send all there is

DOORS = 2
WRITERS = 6
ORGANIZATIONS = 2
DRAINED_WITHIN_S = 300.0


def main() -> int:
    """0 if nothing is lost and nothing doubled; the report is one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--acknowledged", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between two faults")
    parser.add_argument(
        "--hurry", action="store_true", help="at the end, leases of the dead run out at once"
    )
    options = parser.parse_args()
    import django

    django.setup()
    report = _run(options.acknowledged, options.seed, options.pause, hurry=options.hurry)
    print(json.dumps(report, indent=2))
    return 1 if report["wrong"] else 0


def _run(goal: int, seed: int, pause_s: float, *, hurry: bool) -> dict[str, Any]:
    from config.celery import app
    from metering.tasks import apply_pending_batches
    from stack.home import open_home
    from tests.chaos import count, journal, processes
    from tests.chaos.faults import Faults
    from tests.chaos.sender import Plan, Tally, Writer
    from tests.chaos.wire import proxied

    home = open_home(os.environ)
    _migrate()
    keys = [_organization(number) for number in range(ORGANIZATIONS)]
    plan = Plan(seed, datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1))
    tally = Tally()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="kt-chaos-")))
        wire = stack.enter_context(proxied(home.sockets, folder, seed))
        env = processes.over(folder, os.environ)
        running = {one.name: one for one in processes.programs(home, env, DOORS)}
        for process in running.values():
            stack.callback(process.stop)
            process.ensure()
        ports = [processes.port_of(one) for name, one in running.items() if "ingestion" in name]
        for port in ports:
            processes.await_answer(port)

        def ring() -> None:
            try:
                app.send_task(apply_pending_batches.name, retry=False)
            except Exception as error:  # the broker is down: that is the point
                tally.add(**{f"doorbell: {type(error).__name__}": 1})

        faults = Faults(home, running, wire, os.environ["DATABASE_URL"], ring, seed)
        started_at = time.monotonic()
        writers = [
            Writer(
                number, plan, keys[number % ORGANIZATIONS][1], ports,
                journal.Journal(folder / "journal", number), tally,
                lambda: tally.counts["acknowledged"] < goal and not tally.wrong,
            )
            for number in range(WRITERS)
        ]  # fmt: skip
        threads = [threading.Thread(target=writer.run) for writer in writers]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(pause_s)
            name = faults.strike()
            said = f"{tally.counts['acknowledged']:>10,} acknowledged; {name}"
            print(said, file=sys.stderr, flush=True)
        sent_s = time.monotonic() - started_at
        for process in running.values():
            process.ensure()
        wrong = list(tally.wrong)
        everything = list(journal.read(folder / "journal"))
        drained_at = time.monotonic()
        while any(_patiently(count.pending, one) for one, _ in keys):
            if time.monotonic() > drained_at + DRAINED_WITHIN_S:
                wrong.append("not everything is in the readings in time")
                break
            if hurry:
                _patiently(count.end_leases)
            time.sleep(0.5)
        drained_s = time.monotonic() - drained_at
        for number, (organization_id, _) in enumerate(keys):
            own = [one for one in everything if one.writer % ORGANIZATIONS == number]
            wrong += count.faults(organization_id, plan, own)
    return {
        "seed": seed,
        "acknowledged": sum(one.accepted + one.duplicate for one in everything),
        "batches": len(everything),
        "stored_though_unanswered": sum(one.duplicate for one in everything),
        "requests_without_answer": tally.counts["unanswered"],
        "cut_by_the_sender": tally.counts["cut_by_the_sender"],
        "faults": dict(sorted(faults.done.items())),
        "sent_in_s": round(sent_s),
        "drained_in_s": round(drained_s),
        "wrong": wrong,
    }


def _patiently(act: Any, *arguments: Any) -> Any:
    """Ask a database that may be starting just now."""
    from django.db import OperationalError, connection

    deadline = time.monotonic() + 60
    while True:
        try:
            return act(*arguments)
        except OperationalError:
            connection.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _migrate() -> None:
    from django.core.management import call_command

    call_command("migrate", verbosity=0, skip_checks=True)


def _organization(number: int) -> tuple[int, str]:
    """An organization of its own with a key that may send: its row, and the key's text."""
    from tests import build

    slug = f"chaos-{number}-{secrets.token_hex(4)}"
    organization = build.make_organization(name=slug, slug=slug)
    _, text = build.make_key(organization=organization, scopes=("ingest",))
    return organization.pk, text


if __name__ == "__main__":
    sys.exit(main())
