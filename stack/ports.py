"""Whether a TCP port is free, who has it where it is not, and which ones `stack run` took."""

import errno
import json
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from stack import processes
from stack.refusal import Refusal

LISTENING = "0A"  # the state column of /proc/net/tcp
OURS = ("PORT", "INGEST_PORT")


def note(locks: Path, env: Mapping[str, str]) -> None:
    """Let commands beside this `stack run` know where its doors are."""
    draft = locks / ".ports"
    draft.write_text(json.dumps({"pid": os.getpid(), "ports": {name: env[name] for name in OURS}}))
    draft.replace(locks / "ports")


def of_running(locks: Path) -> dict[str, str]:
    """The ports of the `stack run` on this home; none if there is none."""
    try:
        noted = json.loads((locks / "ports").read_text())
    except FileNotFoundError:
        return {}
    lives = "stack run" in processes.command_line(noted["pid"])
    return dict(noted["ports"]) if lives else {}


def refuse_if_taken(host: str, port: int, *, variable: str) -> None:
    """Name the port, its holder and the way out, before anything is started."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise Refusal(f"HOST={host} is not an address of this machine") from error
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            raise Refusal(_why(error, host, port, variable)) from error


def _why(error: OSError, host: str, port: int, variable: str) -> str:
    other = port + 10 if 1023 < port < 65_000 else 8010  # one above is the ingestion port of PORT
    choose = f"choose another: {variable}={other} make run"
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is taken by {_holder(port)}; stop it or {choose}"
    if error.errno == errno.EACCES:
        return f"port {port} is reserved for root; {choose}"
    return f"{host}:{port} cannot be listened on ({error.strerror}); check HOST, or {choose}"


def _holder(port: int) -> str:
    """Who listens there, as far as this user may see."""
    sockets = {f"socket:[{inode}]" for inode in _listening(port)}
    for descriptor in Path("/proc").glob("[0-9]*/fd/*") if sockets else ():
        try:
            if os.readlink(descriptor) in sockets:
                pid = descriptor.parts[2]
                return f"process {pid} ({Path('/proc', pid, 'comm').read_text().strip()})"
        except OSError:
            continue
    return f"another program (`lsof -i :{port}` names it)"


def _listening(port: int) -> list[str]:
    """The socket numbers listening on this port."""
    found = []
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            rows = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            columns = row.split()
            if columns[3] == LISTENING and re.search(f":{port:04X}$", columns[1]):
                found.append(columns[9])
    return found
