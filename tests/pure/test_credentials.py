"""Names that read like somebody's credential are told from names that only begin like one."""

import pytest

from metering.usage.credentials import hidden, reads_like_one
from tests.bad_input.events import SECRETS

ALIKE = [
    "sk-session-2026-11-18", "sk-1", "task-0123456789abcdef0123456789abcdef", "ghost-writer",
    "github-copilot", "AKIA", "hf_agent", "gsk_1", "xox", "eyJ", "eyJhbGciOiJIUzI1NiJ9",
    "sk-0123456789abcdef-0123456789abcdef", "disk-" + "a1" * 30,
]  # fmt: skip


def test_the_table_has_one_of_each_kind() -> None:
    assert len(SECRETS) >= 9


@pytest.mark.parametrize("secret", SECRETS)
def test_a_credential_is_known_and_left_out_of_texts(secret: str) -> None:
    assert reads_like_one(secret)
    shown = hidden(f'{{"id": "{secret}", "model": "m"}}')
    assert secret[12:] not in shown
    assert shown.endswith('"model": "m"}')


@pytest.mark.parametrize("name", ALIKE)
def test_a_name_that_begins_like_one_is_a_name(name: str) -> None:
    assert not reads_like_one(name)
    assert hidden(name) == name
