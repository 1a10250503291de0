"""Where state lives, and that it lives there alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from stack import environment, home
from stack.refusal import Refusal


def test_every_socket_path_fits_into_the_kernels_107_bytes() -> None:
    for depth in range(200):
        folder = home.sockets_folder(Path("/srv") / ("d" * depth), 1000)
        assert len(os.fsencode(folder / home.LONGEST_SOCKET_NAME)) <= home.SOCKET_PATH_BYTES_MAX


@pytest.mark.parametrize("path", ["/srv/with space", "/srv/per%cent", "/srv/ümlaut", "/srv/a@b"])
def test_a_path_that_needs_quoting_in_a_url_is_kept_out_of_it(path: str) -> None:
    assert str(home.sockets_folder(Path(path), 1000)).startswith("/tmp/kilotoken-1000-")


def test_different_homes_have_different_socket_folders_and_names() -> None:
    deep = [Path("/", "d" * 120, name) for name in ("one", "two")]
    assert len({home.sockets_folder(path, 1000) for path in deep}) == 2
    assert len({home.slug(Path("/a/b-c")), home.slug(Path("/a-b/c"))}) == 2


def test_a_closed_folder_anywhere_on_the_way_is_noticed(tmp_path: Path) -> None:
    stranger = home.Person(54_321, 54_321, "stranger")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    assert not home.can_reach(closed / "not" / "yet" / "there", stranger)
    me = home.Person(os.geteuid(), os.getegid(), "me")
    assert home._lets_through(closed, me)


def test_a_secret_is_made_once_and_readable_by_its_owner_only(tmp_path: Path) -> None:
    me = home.Person(os.geteuid(), os.getegid(), "me")
    here = home.Home(tmp_path, me, tmp_path / "run")
    here.secrets.mkdir()
    first = home.secret(here, "secret_key")
    assert first == home.secret(here, "secret_key")
    assert len(first) >= 64
    assert stat.S_IMODE((here.secrets / "secret_key").stat().st_mode) == 0o600
    assert [path.name for path in here.secrets.iterdir()] == ["secret_key"]


def _children(tmp_path: Path, **environ: str) -> dict[str, str]:
    me = home.Person(os.geteuid(), os.getegid(), "me")
    (tmp_path / "secrets").mkdir(exist_ok=True)
    return environment.for_children(home.Home(tmp_path, me, Path("/x/run")), environ)


def test_the_database_url_names_the_socket_folder_percent_encoded(tmp_path: Path) -> None:
    env = _children(tmp_path)
    assert env["DATABASE_URL"] == "postgresql://kilotoken@%2Fx%2Frun/kilotoken"
    assert env["CELERY_BROKER_URL"] == "redis+socket:///x/run/valkey.sock"


def test_what_the_caller_has_set_stays(tmp_path: Path) -> None:
    mine = {"DATABASE_URL": "postgresql://db/x", "SECRET_KEY": "s", "INGEST_PORT": "9", "LANG": "C"}
    assert _children(tmp_path, **mine).items() >= mine.items()


def test_an_empty_variable_is_as_good_as_none(tmp_path: Path) -> None:
    assert _children(tmp_path, PORT="", SECRET_KEY="")["SECRET_KEY"] != ""
    assert _children(tmp_path, PORT="")["PORT"] == "8000"


def test_ingestion_listens_beside_the_portal_unless_told_otherwise(tmp_path: Path) -> None:
    assert _children(tmp_path, PORT="8200")["INGEST_PORT"] == "8201"


@pytest.mark.parametrize("port", ["0", "65536", "-1", "80a", "1e3", "²", "8000 "])
def test_a_port_that_is_none_is_refused_by_name(port: str) -> None:
    with pytest.raises(Refusal, match=r"^PORT must be a port number"):
        environment.port_number({"PORT": port}, "PORT", 8000)


@pytest.mark.parametrize(
    ("environ", "starts"),
    [
        ({}, True),
        ({"DATABASE_URL": "x"}, True),
        ({"DATABASE_URL": "x", "CELERY_BROKER_URL": ""}, True),
        ({"DATABASE_URL": "x", "CELERY_BROKER_URL": "y"}, False),
    ],
)
def test_servers_are_started_unless_both_are_named(environ: dict[str, str], starts: bool) -> None:
    assert environment.needs_servers(environ) is starts
