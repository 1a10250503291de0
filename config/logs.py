"""Log lines without secrets: people put keys into addresses, and addresses are logged."""

from __future__ import annotations

import logging
import re

from accounts.keys import masked

_INVITATION = re.compile(r"(/invitations/)[\w-]+", re.ASCII)


class Formatter(logging.Formatter):
    """The usual line, traceback included, after the secrets in it were left out."""

    def format(self, record: logging.LogRecord) -> str:
        return _INVITATION.sub(r"\1...", masked(super().format(record)))
