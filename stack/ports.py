"""Whether a TCP port is free, and who has it where it is not."""

import errno
import os
import re
import socket
from pathlib import Path

from stack.refusal import Refusal

LISTENING = "0A"  # the state column of /proc/net/tcp


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
    choose = f"choose another: {variable}={port + 1 if port > 1023 else 8000} make run"
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
