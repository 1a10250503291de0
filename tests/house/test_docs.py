"""What the docs promise to list, they list."""

from __future__ import annotations

import re
from pathlib import Path

from accounts.problems import KINDS
from config.celery import app
from metering.ingest import decode, inflate, limits, request
from metering.usage import registers

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "docs" / "reference"
_READS = re.compile(r"""env(?:\.\w+)?\(\s*"([A-Z_]+)"|environ(?:\.get\(|\[)\s*"([A-Z_]+)\"""")
# Django's and Python's own; the reader finds them in their documentation.
OTHERS = {
    "DJANGO_SETTINGS_MODULE", "HOME", "PATH", "TERM", "NO_COLOR", "CI", "PATH_INFO",
    "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_CONFIG_DIRS",
}  # fmt: skip


_NAMES = re.compile(r"`([a-z0-9_]+)`")


def _rows(page: Path) -> list[str]:
    """The rows of a page's tables, without heads and rulers."""
    rows = [line for line in page.read_text().splitlines() if line.startswith("| ")]
    return [row for row in rows if not row.startswith("| invariant ")]


def _variables_read() -> set[str]:
    found: set[str] = set()
    for path in [*(ROOT / "config").glob("*.py"), *(ROOT / "stack").glob("*.py")]:
        found |= {first or second for first, second in _READS.findall(path.read_text())}
    return {name for name in found - OTHERS if not name.startswith("PIP_")}


def test_every_setting_is_documented() -> None:
    page = (REFERENCE / "settings.md").read_text()
    missing = sorted(name for name in _variables_read() if f"`{name}`" not in page)
    assert missing == []


def test_every_documented_setting_exists() -> None:
    page = (REFERENCE / "settings.md").read_text()
    documented = set(re.findall(r"^\| `([A-Z_]+)`", page, re.MULTILINE))
    read = _variables_read()
    for path in (ROOT / "stack").glob("*.py"):
        read |= {name for name in documented if name in path.read_text()}
    assert documented - read == set()


def test_every_problem_code_is_documented() -> None:
    page = (REFERENCE / "errors.md").read_text()
    assert [code for code in KINDS if f"`{code}`" not in page] == []


def test_every_task_that_beats_is_documented() -> None:
    page = (ROOT / "docs" / "internals" / "flow.md").read_text()
    tasks = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert sorted(task for task in tasks if f"`{task}`" not in page) == []


def test_every_beating_task_exists() -> None:
    app.loader.import_default_modules()
    tasks = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert sorted(task for task in tasks if task not in app.tasks) == []


def test_every_register_we_know_is_in_the_glossary() -> None:
    page = (REFERENCE / "glossary.md").read_text()
    assert [name for name in registers.KNOWN if f"`{name}`" not in page] == []


def test_the_page_of_limits_says_what_the_code_does() -> None:
    page = (REFERENCE / "limits.md").read_text()
    told = {
        f"events in a batch | {decode.EVENTS_MAX:,} |",
        f"as sent and unpacked | {decode.BODY_BYTES_MAX:,} |",
        f"zstd frames | {inflate.PARTS_MAX:,} |",
        f"levels of JSON | {decode.DEPTH_MAX} |",
        f"without a byte of the body | {request.BODY_WAIT_S} |",
        f"for every {request.BODY_BYTES_PER_S:,} bytes",
        f"fills in {limits.BURST_S} seconds",
    }
    assert sorted(line for line in told if line not in page) == []
    settings = (REFERENCE / "settings.md").read_text()
    for name in ("INGEST_EVENTS_PER_S", "INGEST_BYTES_PER_S"):
        usual = int(re.findall(rf"`{name}` \| `(\d+)`", settings)[0])
        assert f"| {usual:,} | `{name}` |" in page
        assert f'env.int("{name}", default={usual:_})' in (ROOT / "config/settings.py").read_text()


def test_every_rule_and_test_that_a_page_names_exists() -> None:
    rooms = ("accounts", "metering", "billing")
    rules = "".join(
        path.read_text() for room in rooms for path in ROOT.glob(f"{room}/migrations/*.py")
    )
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = [row.split("|")[2:4] for row in _rows(REFERENCE / "invariants.md")]
    assert len(named) > 25
    for rule, test in named:
        assert [name for name in _NAMES.findall(rule) if not re.search(rf"\b{name}\b", rules)] == []
        assert _NAMES.search(test)
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    shown = set(re.findall(r"`(test_[a-z0-9_]+)`", pages))
    assert sorted(name for name in shown if f"def {name}(" not in tests) == []


def test_links_between_pages_lead_somewhere() -> None:
    broken = []
    for page in [ROOT / "README.md", *ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            inside = "://" not in target and not target.startswith("mailto:")
            if inside and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)}: {target}")
    assert broken == []
