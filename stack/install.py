"""`stack install`: `.venv` with exactly the locked packages; the second time costs nothing."""

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from stack import fetch_uv, package_index, processes
from stack.home import ROOT
from stack.refusal import Refusal, say

VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
STAMP = VENV / "kilotoken.installed"
UNFINISHED = VENV / "kilotoken.unfinished"
RUNTIME_LOCK = ROOT / "requirements.txt"
DEV_LOCK = ROOT / "requirements-dev.txt"
FREE_BYTES_MIN = 1_000_000_000  # the dev lock unpacks to about 600 MB


def main(environ: Mapping[str, str], *, dev: bool) -> int:
    """Bring .venv up to the locks; what is there for development stays."""
    alone = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(alone, fcntl.LOCK_EX)  # `make run` and `make test` at once take turns
    try:
        dev = dev or _stamped_for_dev()
        if _is_current(dev):
            return 0
        started_at = time.monotonic()
        locks = [RUNTIME_LOCK, DEV_LOCK] if dev else [RUNTIME_LOCK]
        _install(locks, environ)
        STAMP.write_text(json.dumps({"dev": dev, "locks": fingerprint(locks), "at": str(VENV)}))
        say(f"installed into .venv in {time.monotonic() - started_at:.0f} s")
    finally:
        os.close(alone)
    return 0


def fingerprint(locks: Sequence[Path]) -> str:
    """What the stamp remembers: the content of the locks."""
    digest = hashlib.sha256()
    for lock in locks:
        digest.update(lock.read_bytes())
    return digest.hexdigest()


def _stamp() -> dict[str, object]:
    try:
        stamp: dict[str, object] = json.loads(STAMP.read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return stamp


def _stamped_for_dev() -> bool:
    return bool(_stamp().get("dev"))


def _is_current(dev: bool) -> bool:
    locks = [RUNTIME_LOCK, DEV_LOCK] if dev else [RUNTIME_LOCK]
    return (
        not UNFINISHED.exists()
        and _stamp().get("locks") == fingerprint(locks)
        and _python_works()
        and not _has_moved()
    )


def _has_moved() -> bool:
    """The programs in .venv name its place in their first line: a moved one has none that run."""
    return _stamp().get("at", str(VENV)) != str(VENV)


def _python_works() -> bool:
    """Whether .venv's Python still is one: the one it points to may be gone or replaced."""
    try:
        done = subprocess.run(
            [PYTHON, "-c", "import sys; print(sys.prefix, '%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return False
    prefix, _, version = done.stdout.strip().rpartition(" ")
    packages = VENV / "lib" / f"python{version}" / "site-packages"
    return done.returncode == 0 and Path(prefix) == VENV and packages.is_dir()


def _install(locks: Sequence[Path], environ: Mapping[str, str]) -> None:
    if shutil.disk_usage(ROOT).free < FREE_BYTES_MIN:
        raise Refusal(f"less than 1 GB of disk space is left at {ROOT}; .venv needs about 0.6 GB")
    if UNFINISHED.exists() or not _python_works() or _has_moved():
        _make_venv()
    UNFINISHED.touch()
    index = package_index.configured(environ)
    if not _by_uv(locks, index, environ):
        _by_pip(locks, environ)
    UNFINISHED.unlink()


def _make_venv() -> None:
    """A fresh environment without pip, which not every Python has at hand."""
    if VENV.exists():
        say(".venv is unfinished, moved, or without its Python; making it anew")
        shutil.rmtree(VENV)
    VENV.mkdir()
    UNFINISHED.touch()
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", VENV],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise Refusal(f"this Python cannot make a virtual environment: {' '.join(last)}")


def find_uv(index: package_index.PackageIndex, environ: Mapping[str, str]) -> bool:
    """Whether .venv has a working uv, fetched if need be."""
    return UV.exists() or fetch_uv.fetch(UV, index, environ)


def _by_uv(
    locks: Sequence[Path], index: package_index.PackageIndex, environ: Mapping[str, str]
) -> bool:
    if not UV.exists():
        say("fetching the installer, uv")
    if not find_uv(index, environ):
        say("uv cannot be had here; pip takes its place and its time, a minute or two")
        return False
    say(f"installing {' and '.join(lock.name for lock in locks)} into .venv")
    env = uv_environment(index, environ)
    argv = [str(UV), "pip", "sync", "--require-hashes", "--only-binary", ":all:"]
    argv += ["--python", str(PYTHON), *map(str, locks)]
    with_us = processes.dies_with_parent(signal.SIGTERM)  # two installers would trip each other
    done = subprocess.run(argv, env=env, cwd=ROOT, check=False, preexec_fn=with_us)
    if done.returncode == 0:
        return True
    say("uv did not succeed; trying with pip")
    return False


def uv_environment(index: package_index.PackageIndex, environ: Mapping[str, str]) -> dict[str, str]:
    """Pip's index and the system's certificates, under the names old and new uv know it by."""
    env = package_index.for_uv(index, environ)
    env |= {"UV_SYSTEM_CERTS": "1", "UV_NATIVE_TLS": "1"}
    cache = Path(env.get("XDG_CACHE_HOME") or Path(env.get("HOME") or "~").expanduser() / ".cache")
    if "UV_CACHE_DIR" not in env and not _can_make(cache):
        env["UV_NO_CACHE"] = "1"
    return env


def _can_make(folder: Path) -> bool:
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def _by_pip(locks: Sequence[Path], environ: Mapping[str, str]) -> None:
    env = fetch_uv.pip_environment(environ)
    words = ["install", "--require-hashes", "--only-binary", ":all:"]
    for lock in locks:
        words += ["-r", str(lock)]
    heard = ""
    for pip in fetch_uv.pips():
        argv = [*pip, "--python", str(PYTHON), *words]
        if not fetch_uv.runs(*pip):
            continue
        done = subprocess.run(
            argv, env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True, check=False
        )
        if done.returncode == 0:
            return
        heard = (done.stderr.strip().splitlines() or [""])[-1]
    if heard:
        raise Refusal(f"the packages cannot be installed: {heard}")
    raise Refusal(
        "neither uv nor pip is here and no package index is configured; install pip, "
        "or set PIP_INDEX_URL to the address of your package index"
    )


def compile_locks(environ: Mapping[str, str]) -> int:
    """Write both locks anew from the pages of direct dependencies, for every platform at once."""
    index = package_index.configured(environ)
    if not UV.exists():
        main(environ, dev=False)
    if not find_uv(index, environ):
        raise Refusal("uv cannot be had here, and only uv compiles a lock for every platform")
    for lock in (RUNTIME_LOCK, DEV_LOCK):
        argv = [str(UV), "pip", "compile", lock.with_suffix(".in").name, "-o", lock.name]
        argv += ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-header"]
        done = subprocess.run(
            [*argv, "--quiet"],
            env=uv_environment(index, environ),
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode != 0:
            raise Refusal(f"{lock.name} cannot be compiled; uv says why above")
    return 0
