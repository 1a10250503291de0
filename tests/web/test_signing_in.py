"""Sign-up, sign-in and reset, as a browser sees them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal import auth as totp
from django.core import mail
from django.core.cache import cache
from django.test import Client

from accounts.models import User
from tests import build

PASSWORD = "correct horse battery"
LOGIN, SIGN_UP, RESET = "/accounts/login/", "/accounts/signup/", "/accounts/password/reset/"


@pytest.fixture(autouse=True)
def _fresh_rate_limits() -> None:
    cache.clear()


def sign_in(client: Client, email: str, password: str = PASSWORD, **headers: str):
    return client.post(LOGIN, {"login": email, "password": password}, **headers)


def sign_up(client: Client, email: str, password: str = PASSWORD, **headers: str):
    return client.post(
        SIGN_UP, {"email": email, "password1": password, "password2": password}, **headers
    )


def links() -> list[str]:
    return re.findall(r"https?://[^\s/]+(/\S+)", mail.outbox[-1].body)


def signed_in(client: Client) -> bool:
    return "_auth_user_id" in client.session


def test_a_person_signs_in_with_address_and_password(client: Client, alice: User):
    response = sign_in(client, "Alice@ACME.example")
    assert (response.status_code, response["Location"]) == (302, "/")
    assert signed_in(client)


def test_staff_without_an_organization_lands_in_the_console(client: Client, db: None):
    User.objects.filter(pk=build.make_user(email="op@cloud.example").pk).update(is_staff=True)
    assert sign_in(client, "op@cloud.example")["Location"] == "/console/"


def test_signing_in_starts_another_session(client: Client, alice: User):
    client.get(LOGIN)
    before = client.session.session_key or client.session.create() or client.session.session_key
    sign_in(client, alice.email)
    assert client.session.session_key != before


def test_a_new_account_cannot_be_used_before_its_address_is_confirmed(client: Client, db: None):
    response = sign_up(client, "new@acme.example")
    assert response["Location"] == "/accounts/confirm-email/"
    assert not signed_in(client)
    sign_in(client, "new@acme.example")
    assert not signed_in(client)


def test_opening_the_link_alone_confirms_nothing_and_the_button_does(client: Client, db: None):
    sign_up(client, "new@acme.example")
    confirm = links()[0]
    assert client.get(confirm).status_code == 200
    assert not EmailAddress.objects.get().verified
    client.post(confirm)
    assert EmailAddress.objects.get().verified
    sign_in(client, "new@acme.example")
    assert signed_in(client)


def test_a_weak_password_is_refused(client: Client, db: None):
    for weak in ("short", "passwordpassword1"[:8], "new@acme.example"):
        assert sign_up(client, "new@acme.example", weak).status_code == 200
    assert not User.objects.exists()


def page_after(client: Client, path: str, **fields: str) -> str:
    """The page that follows a form, without what differs from one browser to the next."""
    page = client.post(path, fields, follow=True).content.decode()
    return page.replace(fields["email"], "ADDRESS")


def test_sign_up_tells_nobody_whether_an_account_exists(alice: User):
    passwords = {"password1": PASSWORD, "password2": PASSWORD}
    new = page_after(Client(), SIGN_UP, email="new@acme.example", **passwords)
    old = page_after(Client(), SIGN_UP, email=alice.email, **passwords)
    assert new == old
    assert [message.to for message in mail.outbox] == [["new@acme.example"], [alice.email]]
    assert "there is one already" in mail.outbox[1].body
    assert User.objects.get(pk=alice.pk).check_password(PASSWORD)


def test_reset_tells_nobody_whether_an_account_exists(alice: User):
    known = page_after(Client(), RESET, email=alice.email)
    assert known == page_after(Client(), RESET, email="nobody@acme.example")
    assert "/accounts/password/reset/key/" in mail.outbox[0].body
    assert "no account with it" in mail.outbox[1].body


def test_a_failed_sign_in_reads_the_same_for_known_and_unknown_addresses(alice: User):
    said = []
    for email in (alice.email, "nobody@acme.example"):
        page = sign_in(Client(), email, "wrong horse battery").content.decode()
        said.append(re.sub(r'(value="[^"]*"|nonce="[^"]*")', "", page))
    assert said[0] == said[1]
    assert "not correct" in said[0]


def test_reset_sets_a_password_once_and_ends_other_sessions(client: Client, alice: User):
    elsewhere = Client()
    sign_in(elsewhere, alice.email)
    client.post(RESET, {"email": alice.email})
    link = links()[0]
    form = client.get(link)["Location"]
    new = "battery staple horse"
    client.post(form, {"password1": new, "password2": new})
    assert elsewhere.get("/accounts/email/").status_code == 302
    sign_in(client, alice.email, new)
    assert signed_in(client)
    assert "does not work any more" in Client().get(link, follow=True).content.decode()


@pytest.mark.parametrize("path", [SIGN_UP, RESET])
def test_links_in_mails_ignore_the_host_a_request_claims(alice: User, settings, path: str):
    settings.ALLOWED_HOSTS = ["*"]
    settings.PUBLIC_URL = "https://usage.example"
    for email in (alice.email, "new@acme.example"):
        fields = {"email": email, "password1": PASSWORD, "password2": PASSWORD}
        Client().post(path, fields, HTTP_HOST="evil.example")
        text = mail.outbox[-1].subject + mail.outbox[-1].body
        assert "https://usage.example/" in text
        assert "evil" not in text


def test_guessing_is_slowed_down(alice: User, settings):
    settings.ACCOUNT_RATE_LIMITS = {"login_failed": False}
    for _ in range(settings.AXES_FAILURE_LIMIT):
        last = sign_in(Client(), alice.email, "wrong horse battery")
    assert last.status_code == 429
    assert sign_in(Client(), alice.email).status_code == 429
    charlie = build.make_user(email="charlie@globex.example")
    assert sign_in(Client(), charlie.email).status_code == 302


def test_a_second_factor_is_asked_for_once_it_is_set_up(client: Client, alice: User):
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(alice, secret)
    response = sign_in(client, alice.email)
    assert response["Location"].startswith("/accounts/2fa/authenticate/")
    assert not signed_in(client)
    client.post("/accounts/2fa/authenticate/", {"code": "000000"})
    assert not signed_in(client)
    counter = next(iter(totp.yield_hotp_counters_from_time()))
    code = totp.format_hotp_value(totp.hotp_value(secret, counter))
    client.post("/accounts/2fa/authenticate/", {"code": code})
    assert signed_in(client)


def test_the_secret_of_a_second_factor_is_not_stored_in_clear(alice: User):
    secret = totp.generate_totp_secret()
    totp.TOTP.activate(alice, secret)
    row = str(Authenticator.objects.values().get())
    assert "secret" in row
    assert secret not in row


def test_where_mail_goes_to_files_the_page_after_sign_up_says_so(
    client: Client, db: None, settings, tmp_path: Path
):
    settings.EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
    settings.EMAIL_FILE_PATH = tmp_path
    page = client.post(
        SIGN_UP,
        {"email": "new@acme.example", "password1": PASSWORD, "password2": PASSWORD},
        follow=True,
    )
    assert str(tmp_path) in page.content.decode()
    assert len(list(tmp_path.iterdir())) == 1


def test_where_mail_is_sent_no_page_speaks_of_files(client: Client, db: None, settings):
    response = sign_up(client, "new@acme.example")
    assert "files" not in client.get(response["Location"]).content.decode()


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/", "javascript:x"])
def test_signing_in_never_leads_elsewhere(client: Client, alice: User, target: str):
    fields = {"login": alice.email, "password": PASSWORD, "next": target}
    assert "evil" not in client.post(LOGIN, fields)["Location"]


@pytest.mark.parametrize(
    "path",
    [LOGIN, SIGN_UP, RESET, RESET + "done/", "/accounts/confirm-email/"],
)
def test_the_pages_of_the_entrance_are_open_and_not_cached(client: Client, db: None, path: str):
    response = client.get(path)
    assert response.status_code == 200
    assert "<h1>" in response.content.decode()


@pytest.mark.parametrize(
    "path",
    ["/accounts/email/", "/accounts/password/change/", "/accounts/2fa/", "/accounts/logout/"],
)
def test_the_pages_of_ones_own_account_open_for_the_signed_in_alone(
    client: Client, alice: User, path: str
):
    assert client.get(path).status_code == 302
    client.force_login(alice)
    assert client.get(path).status_code == 200


def test_another_address_is_added_verified_and_made_primary(client: Client, alice: User):
    client.force_login(alice)
    client.post("/accounts/email/", {"action_add": "", "email": "alice@new.example"})
    confirm = next(path for path in links() if "confirm-email" in path)
    client.post(confirm)
    client.post("/accounts/email/", {"action_primary": "", "email": "alice@new.example"})
    alice.refresh_from_db()
    assert alice.email == "alice@new.example"
