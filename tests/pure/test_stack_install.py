"""Pip's configuration decides where packages come from, and a stamp whether any are fetched."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from stack import fetch_uv, install, package_index
from stack.package_index import PackageIndex


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_environment_wins_over_the_users_file(tmp_path: Path) -> None:
    write(
        tmp_path / ".config/pip/pip.conf",
        "[global]\nindex-url = https://file.example/simple\nfind_links = /a\n  /b\n",
    )
    environ = {"HOME": str(tmp_path), "PIP_INDEX_URL": "https://environment.example/simple"}
    index = package_index.configured(environ)
    assert index.index_url == "https://environment.example/simple"
    assert index.find_links == ["/a", "/b"]


def test_a_named_file_wins_over_the_users_and_none_of_them_is_read_for_dev_null(
    tmp_path: Path,
) -> None:
    write(tmp_path / ".config/pip/pip.conf", "[global]\nindex-url = https://user.example\n")
    named = write(tmp_path / "named.conf", "[install]\nindex-url = https://named.example\n")
    environ = {"HOME": str(tmp_path), "PIP_CONFIG_FILE": str(named)}
    assert package_index.configured(environ).index_url == "https://named.example"
    environ["PIP_CONFIG_FILE"] = "/dev/null"
    assert package_index.configured(environ) == PackageIndex()


def test_a_broken_configuration_file_is_left_to_pip(tmp_path: Path) -> None:
    write(tmp_path / ".pip/pip.conf", "index-url = outside of any section\n")
    package_index.configured({"HOME": str(tmp_path)})


def test_uv_gets_what_pip_was_told_and_keeps_what_it_was_told_itself() -> None:
    index = PackageIndex(
        index_url="https://one.example/simple",
        extra_index_urls=["https://two.example/simple", "https://three.example/simple"],
        find_links=["/wheels", "/more"],
        trusted_hosts=["one.example"],
        certificates="/etc/ca.pem",
    )
    env = package_index.for_uv(index, {"SSL_CERT_FILE": "/mine.pem", "LANG": "C"})
    assert env["UV_DEFAULT_INDEX"] == "https://one.example/simple"
    assert env["UV_INDEX"] == "https://two.example/simple https://three.example/simple"
    assert env["UV_FIND_LINKS"] == "/wheels,/more"
    assert env["UV_INSECURE_HOST"] == "one.example"
    assert env["SSL_CERT_FILE"] == "/mine.pem"
    assert env["LANG"] == "C"


def test_without_configuration_no_index_is_named() -> None:
    env = package_index.for_uv(PackageIndex(), {})
    assert not {"UV_DEFAULT_INDEX", "UV_INDEX", "UV_FIND_LINKS", "UV_NO_INDEX"} & env.keys()


def test_the_systems_certificates_are_always_trusted(tmp_path: Path) -> None:
    env = install.uv_environment(PackageIndex(), {"HOME": str(tmp_path)})
    assert (env["UV_SYSTEM_CERTS"], env["UV_NATIVE_TLS"]) == ("1", "1")


@pytest.mark.parametrize(
    ("tags", "system", "machine", "musl", "fits"),
    [
        ("py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64", "linux", "x86_64", False, True),
        ("py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64", "linux", "x86_64", True, False),
        ("py3-none-manylinux_2_17_x86_64.manylinux2014_x86_64", "linux", "aarch64", False, False),
        ("py3-none-musllinux_1_1_x86_64", "linux", "x86_64", True, True),
        ("py3-none-macosx_11_0_arm64", "darwin", "arm64", False, True),
        ("py3-none-macosx_11_0_arm64", "darwin", "x86_64", False, False),
    ],
)
def test_only_the_wheel_of_this_kind_of_machine_is_taken(
    tags: str, system: str, machine: str, musl: bool, fits: bool
) -> None:
    version = fetch_uv.PIN.read_text().split("==")[1].split()[0]
    name = f"uv-{version}-{tags}.whl"
    assert fetch_uv.fits(name, system, machine, musl=musl) is fits
    assert not fetch_uv.fits(name.replace(version, "0.0.1"), system, machine, musl=musl)


def test_a_wheel_with_another_hash_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an index that is a folder: the pinned file is taken, the forged one is not."""
    wheel = write(tmp_path / "files" / "uv-9.9-py3-none-any.whl", "the wheel")
    write(tmp_path / "simple/uv/index.html", f'<a href="{wheel.as_uri()}#x">uv</a>')
    hashed = hashlib.sha256(b"the wheel").hexdigest()
    pin = write(tmp_path / "uv.txt", f"uv==9.9 --hash=sha256:{hashed}")
    monkeypatch.setattr(fetch_uv, "PIN", pin)
    monkeypatch.setattr(fetch_uv, "fits", lambda *_, **__: True)
    page = (tmp_path / "simple/uv/index.html").as_uri()
    monkeypatch.setattr(fetch_uv, "_pages", lambda _: [page])
    target = tmp_path / "got"
    target.mkdir()
    assert fetch_uv._by_hand(target, PackageIndex())
    wheel.write_text("another wheel")
    assert not fetch_uv._by_hand(target, PackageIndex())


def test_the_stamp_notices_every_change_of_a_lock(tmp_path: Path) -> None:
    runtime, dev = write(tmp_path / "a", "one"), write(tmp_path / "b", "two")
    seen = {install.fingerprint([runtime]), install.fingerprint([runtime, dev])}
    dev.write_text("three")
    seen.add(install.fingerprint([runtime, dev]))
    assert len(seen) == 3


def test_every_package_of_both_locks_is_pinned_with_a_hash() -> None:
    for lock in (install.RUNTIME_LOCK, install.DEV_LOCK, fetch_uv.PIN):
        packages = [line for line in lock.read_text().splitlines() if line and line[0].isalnum()]
        assert packages
        assert all("==" in line and line.endswith("\\") for line in packages)
