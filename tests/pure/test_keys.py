"""API keys as text."""

import re

import pytest

from accounts import keys

PEPPER = "pepper"


def test_a_key_names_itself_by_its_prefix():
    new = keys.make(PEPPER)
    assert re.fullmatch(r"kt_[a-z0-9]{12}_[A-Za-z0-9]{43}", new.text)
    assert keys.prefix_of(new.text) == new.prefix


def test_no_two_keys_are_alike():
    made = [keys.make(PEPPER) for _ in range(1_000)]
    assert len({new.prefix for new in made}) == len({new.text for new in made}) == 1_000


def test_what_is_stored_is_a_keyed_digest_of_the_whole_key():
    new = keys.make(PEPPER)
    assert len(new.digest) == 32
    assert new.text.encode() not in new.digest
    assert keys.digest(new.text, PEPPER) == new.digest
    assert keys.digest(new.text, "another pepper") != new.digest


def test_a_digest_matches_its_own_key_alone():
    new, other = keys.make(PEPPER), keys.make(PEPPER)
    assert keys.matches(new.text, new.digest, PEPPER)
    assert not keys.matches(other.text, new.digest, PEPPER)
    assert not keys.matches(new.text[:-1] + "!", new.digest, PEPPER)
    assert not keys.matches(new.text, new.digest, "another pepper")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kt_",
        "kt_abc_def",
        "kt_ABCDEFGHIJKL_" + "x" * 43,
        "kt_abcdefghijkl_" + "x" * 42,
        "kt_abcdefghijkl_" + "x" * 44,
        "kt_abcdefghijkl_" + "x" * 42 + "\n",
        "kt_abcdefghijkl_" + "x" * 43 + "\n",
        "sk_abcdefghijkl_" + "x" * 43,
        "kt_abcdefghijk\u0665_" + "x" * 43,
    ],
)
def test_what_is_not_shaped_like_a_key_has_no_prefix(text: str):
    assert keys.prefix_of(text) is None


def test_a_text_with_a_whole_key_in_it_holds_a_secret_and_a_prefix_alone_does_not():
    new = keys.make(PEPPER)
    assert keys.holds_secret(f"please look at {new.text}, it fails")
    assert not keys.holds_secret(f"please look at kt_{new.prefix}, it fails")


def test_the_secret_does_not_show_in_the_object_that_is_stored_or_logged():
    new = keys.make(PEPPER)
    assert new.text not in repr(new)


def test_a_text_is_masked_whole_keys_and_cut_ones_alike():
    new = keys.make(PEPPER)
    text = f"GET /{new.text} and {new.text[:40]!r} and kt_short_x"
    shown = keys.masked(text)
    assert new.text[17:30] not in shown
    assert shown == f"GET /kt_{new.prefix}_... and 'kt_{new.prefix}_...' and kt_short_x"
