"""What the product is told about where it runs: environment variables, and nothing else."""

import os
from collections.abc import Mapping

from stack import postgres, valkey
from stack.home import ROOT, Home, secret
from stack.refusal import Refusal

PORT_DEFAULT = 8000


def for_children(home: Home, environ: Mapping[str, str]) -> dict[str, str]:
    """The caller's environment, completed; what the caller has set stays."""
    if environ.get("KILOTOKEN_DEMO", "0") not in ("0", "1"):
        raise Refusal("KILOTOKEN_DEMO must be 0 (no demo data) or 1 (make it)")
    if not (environ.get("DATABASE_URL") or "postgresql:").startswith(("postgresql:", "postgres:")):
        raise Refusal("DATABASE_URL must name a PostgreSQL server: postgresql://...")
    port = port_number(environ, "PORT", PORT_DEFAULT)
    ours = {
        "DATABASE_URL": postgres.url(home),
        "CELERY_BROKER_URL": valkey.url(home),
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "SECRET_KEY": "",
        "KILOTOKEN_KEY_PEPPER": "",
        "PORT": str(port),
        "INGEST_PORT": str(port_number(environ, "INGEST_PORT", port + 1)),
    }
    env = {name: value for name, value in ours.items() if not environ.get(name)}
    for name in ("SECRET_KEY", "KILOTOKEN_KEY_PEPPER"):
        if name in env:
            env[name] = secret(home, name.lower())
    return {
        **environ,
        **env,
        "KILOTOKEN_HOME": str(home.path),
        "PATH": search_path(environ),
    }


def search_path(environ: Mapping[str, str]) -> str:
    """Where programs are found: in .venv, then psql and pg_dump of the server's own version."""
    folders = [str(ROOT / ".venv" / "bin")]
    if clients := postgres.wheel_binaries():
        folders.append(str(clients))
    return os.pathsep.join([*folders, environ.get("PATH", os.defpath)])


def needs_servers(environ: Mapping[str, str]) -> bool:
    """Whether anything is left to start; who names both servers runs none of ours."""
    return not (environ.get("DATABASE_URL") and environ.get("CELERY_BROKER_URL"))


def port_number(environ: Mapping[str, str], name: str, default: int) -> int:
    """A TCP port from the environment."""
    text = environ.get(name) or str(default)
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 65_535:
        raise Refusal(f"{name} must be a port number between 1 and 65535, not {text!r}")
    return int(text)
