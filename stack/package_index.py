"""Which package index this machine uses, as pip's own configuration says; we name none."""

import configparser
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """What pip was told. Empty means: what the installer takes by itself."""

    index_url: str = ""
    extra_index_urls: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    no_index: bool = False
    trusted_hosts: list[str] = field(default_factory=list)
    certificates: str = ""
    proxy: str = ""


def configured(environ: Mapping[str, str]) -> PackageIndex:
    """Read pip's files, then its environment variables, the later ones winning as in pip."""
    said: dict[str, str] = {}
    for path in _files(environ):
        said |= _read(path)
    for name, value in environ.items():
        if name.startswith("PIP_") and value:
            said[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return PackageIndex(
        index_url=said.get("index-url", ""),
        extra_index_urls=said.get("extra-index-url", "").split(),
        find_links=said.get("find-links", "").split(),
        no_index=said.get("no-index", "").lower() in ("1", "true", "yes", "on"),
        trusted_hosts=said.get("trusted-host", "").split(),
        certificates=said.get("cert", ""),
        proxy=said.get("proxy", ""),
    )


def _files(environ: Mapping[str, str]) -> Iterable[Path]:
    """Pip's configuration files, the weakest first."""
    alone = environ.get("PIP_CONFIG_FILE", "")
    if alone == os.devnull:
        return
    home = Path(environ.get("HOME") or "~").expanduser()
    for folder in reversed(environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(os.pathsep)):
        yield Path(folder or "/etc/xdg") / "pip" / "pip.conf"
    if sys.platform == "darwin":
        yield Path("/Library/Application Support/pip/pip.conf")
    yield Path("/etc/pip.conf")
    yield home / ".pip" / "pip.conf"
    if sys.platform == "darwin":
        yield home / "Library/Application Support/pip/pip.conf"
    yield Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "pip" / "pip.conf"
    yield Path(sys.prefix) / "pip.conf"
    if alone:
        yield Path(alone)


def _read(path: Path) -> dict[str, str]:
    """The options that concern downloading, `[install]` and `[download]` over `[global]`."""
    parser = configparser.RawConfigParser()
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return {}  # pip says what is wrong with it, and better
    said: dict[str, str] = {}
    for section in ("global", "install", "download"):
        if parser.has_section(section):
            said |= {name.replace("_", "-"): value for name, value in parser.items(section)}
    return said


def for_uv(index: PackageIndex, environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which uv does what pip would do; what is meant for uv already stays."""
    said = {
        "UV_DEFAULT_INDEX": index.index_url,
        "UV_INDEX": " ".join(index.extra_index_urls),
        "UV_FIND_LINKS": ",".join(index.find_links),
        "UV_NO_INDEX": "1" if index.no_index else "",
        "UV_INSECURE_HOST": " ".join(index.trusted_hosts),
        "SSL_CERT_FILE": index.certificates,
        "HTTPS_PROXY": index.proxy,
        # As in pip, every index may serve every package: the hashes say which file is meant.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    ours = {name: value for name, value in said.items() if value and not environ.get(name)}
    return {**environ, **ours}
