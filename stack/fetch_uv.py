"""Gets the pinned `uv` out of its wheel: by pip if there is one, else straight from the index."""

import hashlib
import html
import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from stack.package_index import PackageIndex

PIN = Path(__file__).with_name("uv.txt")
LINK = re.compile(r"""<a\s[^>]*href\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
TIMEOUT_S = 60
# Settings of pip that would send a download elsewhere, or forbid it outside an environment.
PIP_DISTRACTIONS = ("PIP_REQUIRE_VIRTUALENV", "PIP_TARGET", "PIP_USER", "PIP_PREFIX", "PIP_PYTHON")


def fetch(target: Path, index: PackageIndex, environ: Mapping[str, str]) -> bool:
    """Put a working uv at `target`; False if it cannot be had here."""
    with tempfile.TemporaryDirectory() as folder:
        if not _by_pip(Path(folder), environ) and not _by_hand(Path(folder), index):
            return _from_path(target, environ)
        wheel = next(Path(folder).glob("uv-*.whl"))
        with zipfile.ZipFile(wheel) as archive:
            inside = next(name for name in archive.namelist() if name.endswith("/scripts/uv"))
            draft = target.with_name(f".uv.{os.getpid()}")
            with archive.open(inside) as source, draft.open("wb") as file:
                shutil.copyfileobj(source, file)
    draft.chmod(0o755)
    draft.replace(target)
    return runs(str(target))


def _from_path(target: Path, environ: Mapping[str, str]) -> bool:
    found = shutil.which("uv", path=environ.get("PATH"))
    if not found or not runs(found):
        return False
    target.unlink(missing_ok=True)
    target.symlink_to(found)
    return True


def runs(*program: str) -> bool:
    """Whether this program can be started here at all."""
    try:
        done = subprocess.run([*program, "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def pips() -> Iterator[list[str]]:
    """Ways to run a pip that may be here: this Python's, or a wheel that Python carries."""
    yield [sys.executable, "-m", "pip"]
    carried = [
        Path(os.__file__).parent / "ensurepip" / "_bundled",
        Path("/usr/share/python-wheels"),
    ]
    for folder in carried:
        for wheel in sorted(folder.glob("pip-*.whl")):
            yield [sys.executable, str(wheel / "pip")]


def pip_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment, without what would lead pip astray and without its advertisement."""
    kept = {name: value for name, value in environ.items() if name not in PIP_DISTRACTIONS}
    return kept | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _by_pip(folder: Path, environ: Mapping[str, str]) -> bool:
    arguments = [
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary",
        ":all:",
        "--dest",
        str(folder),
    ]
    arguments += ["--require-hashes", "-r", str(PIN)]
    env = pip_environment(environ)
    for pip in pips():
        done = subprocess.run([*pip, *arguments], env=env, capture_output=True, check=False)
        if done.returncode == 0:
            return True
    return False


def _by_hand(folder: Path, index: PackageIndex) -> bool:
    """For a Python without pip: read the index's page of links, or the folder of wheels."""
    hashes = set(re.findall(r"sha256:([0-9a-f]{64})", PIN.read_text()))
    for page in _pages(index):
        for link in _links(page, index):
            name = urllib.parse.unquote(link.partition("#")[0].rpartition("/")[2])
            if not fits(name, sys.platform, platform.machine(), musl=_is_musl()):
                continue
            content = _read(link.partition("#")[0], index)
            if hashlib.sha256(content).hexdigest() in hashes:
                (folder / name).write_bytes(content)
                return True
    return False


def _pages(index: PackageIndex) -> list[str]:
    places = [] if index.no_index else [index.index_url, *index.extra_index_urls]
    return [place.rstrip("/") + "/uv/" for place in places if place] + index.find_links


def fits(name: str, system: str, machine: str, *, musl: bool) -> bool:
    """Whether this wheel of uv is made for this kind of machine."""
    version = re.search(r"==(\S+)", PIN.read_text())
    if not version or not name.startswith(f"uv-{version[1]}-") or not name.endswith(".whl"):
        return False
    tags = name.removesuffix(".whl").rpartition("-")[2]
    family = "macosx" if system == "darwin" else "musllinux" if musl else "manylinux"
    return family in tags and machine in tags


def _is_musl() -> bool:
    return bool(list(Path("/lib").glob("ld-musl-*")))


def _links(page: str, index: PackageIndex) -> list[str]:
    if Path(page).is_dir():
        return [wheel.resolve().as_uri() for wheel in Path(page).glob("uv-*.whl")]
    text = _read(page, index).decode(errors="replace")
    return [urllib.parse.urljoin(page, html.unescape(link)) for link in LINK.findall(text)]


def _read(url: str, index: PackageIndex) -> bytes:
    """The bytes behind an address of the configured index; nothing if it does not answer."""
    host = urllib.parse.urlsplit(url).hostname or ""
    trust = ssl.create_default_context(cafile=index.certificates or None)
    if host in index.trusted_hosts:
        trust.check_hostname = False
        trust.verify_mode = ssl.CERT_NONE
    handlers: list[urllib.request.BaseHandler] = [urllib.request.HTTPSHandler(context=trust)]
    if index.proxy:
        handlers.append(urllib.request.ProxyHandler({"http": index.proxy, "https": index.proxy}))
    try:
        # `open`, also of file:// addresses: an index may be a folder.
        with urllib.request.build_opener(*handlers).open(url, timeout=TIMEOUT_S) as answer:
            content: bytes = answer.read()
            return content
    except (urllib.error.URLError, OSError, ValueError):
        return b""
