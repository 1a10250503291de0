"""The rules of the house that a linter does not know."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "accounts", "metering", "billing", "portal", "console", "config", "workloads", "stack",
    "clients/python/src",
)  # fmt: skip
BANNED_NAMES = {
    "services", "utils", "helpers", "managers", "signals", "common", "misc", "selectors", "core",
}  # fmt: skip
FUNCTION_LINES_MAX = 60
FILE_LINES_MAX = 600
BANNED_CALLS = {
    "print": "a logger, or self.stdout in a command",
    "datetime.now": "the `now` argument",
    "datetime.utcnow": "the `now` argument",
    "datetime.today": "the `now` argument",
    "date.today": "the `now` argument",
}
# Where the clock is read or the terminal is written: the edges.
EDGES = ("/management/commands/", "stack/", "/tasks.py", "config/health.py")
# Where a float may stand: rates and instants of the simulator, seconds of waiting, chart pixels.
MONEY_AND_TOKENS = ("accounts", "metering", "billing", "portal", "console")


def sources() -> Iterator[tuple[str, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path.relative_to(ROOT).as_posix(), path.read_text()


def breaches(name: str, text: str) -> list[str]:
    found = []
    if Path(name).stem in BANNED_NAMES:
        found.append(f"{name}: name the file after what it does")
    if (lines := text.count("\n") + 1) > FILE_LINES_MAX:
        found.append(f"{name}: {lines} lines; split it by noun")
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > FUNCTION_LINES_MAX:
                    found.append(f"{name}:{node.lineno}: {node.name} is {length} lines long")
            case ast.Call():
                call = ast.unparse(node.func)
                if call in BANNED_CALLS and not any(edge in f"/{name}" for edge in EDGES):
                    found.append(f"{name}:{node.lineno}: {call}() here; use {BANNED_CALLS[call]}")
                if call == "float" and name.startswith(MONEY_AND_TOKENS):
                    found.append(f"{name}:{node.lineno}: float() here; use Decimal or int")
            case (
                ast.ImportFrom(module="django.dispatch")
                | ast.Import(names=[ast.alias(name="django.dispatch")])
            ):
                found.append(f"{name}:{node.lineno}: no signals; call the step by its name")
    return found


def test_the_whole_house_is_tidy() -> None:
    assert [breach for name, text in sources() for breach in breaches(name, text)] == []


LONG = "def long():\n" + "    pass\n" * FUNCTION_LINES_MAX


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("billing/services.py", "", "name the file after what it does"),
        ("billing/x.py", "float(price)", "use Decimal or int"),
        ("billing/x.py", "datetime.now()", "the `now` argument"),
        ("metering/x.py", "print('hello')", "a logger"),
        ("metering/x.py", LONG, "61 lines long"),
        ("metering/x.py", "\n" * FILE_LINES_MAX, "split it by noun"),
        ("portal/x.py", "from django.dispatch import receiver", "no signals"),
    ],
)
def test_a_breach_of_each_rule_is_seen(name: str, text: str, complaint: str) -> None:
    assert any(complaint in breach for breach in breaches(name, text))


DJANGOS_NAMES = {"management", "templatetags", "formats"}  # Django looks for these folders


def test_a_folder_holds_at_least_three_files() -> None:
    lonely = [
        folder.relative_to(ROOT).as_posix()
        for room in ROOMS
        for folder in {path.parent for path in (ROOT / room).rglob("*.py")}
        if "migrations" not in folder.parts
        and not DJANGOS_NAMES & set(folder.parts)
        and len([path for path in folder.glob("*.py") if path.name != "__init__.py"]) < 3
        and folder.name != room
    ]
    assert lonely == []


def test_import_contracts_hold() -> None:
    result = subprocess.run(
        [str(ROOT / ".venv/bin/lint-imports"), "--no-cache"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout


def test_the_ingestion_door_uses_nothing_of_django_but_its_settings() -> None:
    imported = {
        f"{name}: {node.module}"
        for name, text in sources()
        if name.startswith(("metering/ingest/", "metering/usage/"))
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "django"
        if node.module != "django.conf"
    }
    assert imported == set()


def test_only_the_gateway_module_imports_stripe() -> None:
    importers = [
        name
        for name, text in sources()
        if any(
            isinstance(node, ast.Import | ast.ImportFrom)
            and "stripe"
            in {alias.name.split(".")[0] for alias in node.names}
            | {(getattr(node, "module", None) or "").split(".")[0]}
            for node in ast.walk(ast.parse(text))
        )
    ]
    assert set(importers) <= {"billing/stripe_gateway.py"}


def test_views_reach_rows_through_the_one_door_only() -> None:
    """`X.objects.filter` or `.get` in a page's module is a second door between tenants."""
    doors = [
        f"{name}:{node.lineno}: {ast.unparse(node)[:60]}"
        for name, text in sources()
        if name.startswith("portal/")
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {"filter", "get", "all", "exclude"}
        and ast.unparse(node.func.value).endswith(".objects")
    ]
    assert doors == []


def test_nothing_of_this_machine_is_in_the_repository() -> None:
    """No secrets, machine paths or registry hosts in any tracked file."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    needles = ["/work/" + "main", "/root/" + ".pyenv", "--index-" + "url http", "pypi." + "org",
               "registry." + "npmjs", "file:///" + "opt"]  # fmt: skip
    found = []
    for name in filter(None, tracked):
        path = ROOT / name
        if path.suffix == ".png" or not path.exists():
            continue
        text = path.read_text(errors="replace")
        found += [f"{name}: {needle}" for needle in needles if needle in text]
    assert found == []
