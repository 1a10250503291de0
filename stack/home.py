"""Where state lives: the folders under KILOTOKEN_HOME, the user who owns them, the secrets."""

import hashlib
import os
import pwd
import re
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack.locks import FileLock
from stack.refusal import Refusal, say

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_HOME = Path("/var/lib/kilotoken")
SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path is 108 on Linux and 104 on macOS
LONGEST_SOCKET_NAME = ".s.PGSQL.5432.lock"
# Nothing here needs quoting in a URL, in PostgreSQL's options or in a shell.
PLAIN_PATH = re.compile(r"[A-Za-z0-9_./+-]+")


@dataclass(frozen=True, slots=True)
class Person:
    """A user of the operating system."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True, slots=True)
class Home:
    """The folders of one installation. Servers' folders belong to `server`, the rest to us."""

    path: Path
    server: Person
    sockets: Path

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def locks(self) -> Path:
        return self.path / "locks"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    @property
    def valkey_socket(self) -> Path:
        return self.sockets / "valkey.sock"


def open_home(environ: Mapping[str, str]) -> Home:
    """Make the folders, each with the narrowest mode that works, and say where they are."""
    wanted = Path(environ.get("KILOTOKEN_HOME") or ROOT / "var")
    path = Path(os.path.abspath(wanted.expanduser()))
    server = server_person(path)
    if os.geteuid() == 0 and not can_reach(path, server):
        moved = SYSTEM_HOME / slug(path)
        say(f"{path} is closed to the user {server.name}, who runs PostgreSQL; using {moved}")
        path = moved
    try:
        return _make_folders(path, server)
    except PermissionError as error:
        raise Refusal(
            f"{error.filename} cannot be written by this user; "
            "choose another folder: KILOTOKEN_HOME=/path/to/folder"
        ) from error


def server_person(path: Path) -> Person:
    """Who runs the servers: whoever owns the data; root, whom PostgreSQL refuses, lends nobody."""
    data = path / "postgres"
    uid = data.stat().st_uid if data.exists() else os.geteuid()
    if os.geteuid() not in (0, uid):
        raise Refusal(f"{data} belongs to user {uid}; run as that user or choose another home")
    if uid == 0:
        return _person(pwd.getpwnam("nobody"))
    try:
        return _person(pwd.getpwuid(uid))
    except KeyError as error:
        raise Refusal(
            f"user id {uid} has no entry in /etc/passwd, and PostgreSQL wants one"
        ) from error


def _person(entry: pwd.struct_passwd) -> Person:
    return Person(entry.pw_uid, entry.pw_gid, entry.pw_name)


def can_reach(path: Path, person: Person) -> bool:
    """Whether every folder on the way that exists lets this user through."""
    return all(_lets_through(folder, person) for folder in (path, *path.parents))


def _lets_through(folder: Path, person: Person) -> bool:
    try:
        status = folder.stat()
    except FileNotFoundError:
        return True
    if status.st_uid == person.uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid == person.gid:
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)


def slug(path: Path) -> str:
    """A folder name for a path: readable, and different for different paths."""
    readable = re.sub(r"[^A-Za-z0-9]+", "-", str(path)).strip("-")[-40:]
    return f"{readable}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"


def sockets_folder(path: Path, uid: int) -> Path:
    """`run` under home, or a short plain folder under /tmp where that would not fit a socket."""
    beside = path / "run"
    length = len(os.fsencode(beside / LONGEST_SOCKET_NAME))
    # macOS allows four bytes fewer; the margin serves both.
    if length <= SOCKET_PATH_BYTES_MAX - 4 and PLAIN_PATH.fullmatch(str(beside)):
        return beside
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:12]
    return Path(f"/tmp/kilotoken-{uid}-{digest}")


def _make_folders(path: Path, server: Person) -> Home:
    home = Home(path, server, sockets_folder(path, server.uid))
    # PostgreSQL's user has to walk through root's home, whatever root's umask says.
    umask = os.umask(0o022)
    path.mkdir(parents=True, exist_ok=True)
    os.umask(umask)
    for folder in (home.logs, home.locks, home.secrets, path / "beat", path / "static"):
        folder.mkdir(exist_ok=True, mode=0o700)
    alone = FileLock(home.locks / "folders")  # between mkdir and chown a folder is root's
    alone.own()
    for folder in (home.postgres, home.sockets):
        make_private(folder, server)
    alone.close()
    return home


def make_private(folder: Path, owner: Person) -> None:
    """A 0700 folder of the server's user; somebody else's folder in /tmp is refused."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    else:
        if os.geteuid() == 0:
            os.chown(folder, owner.uid, owner.gid)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != owner.uid:
        raise Refusal(f"{folder} should be a folder of user {owner.name} and is not; remove it")
    if stat.S_IMODE(status.st_mode) != 0o700:
        folder.chmod(0o700)


def secret(home: Home, name: str) -> str:
    """Read a secret, made on first use; two starters at once agree on one value."""
    path = home.secrets / name
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        draft = home.secrets / f".{name}.{os.getpid()}"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_urlsafe(48) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(draft, path)  # fails where the other starter was first; a rename would not
        except FileExistsError:
            pass
        finally:
            draft.unlink()
        return path.read_text().strip()
