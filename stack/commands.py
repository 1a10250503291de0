"""The commands of `python3 -m stack`, and how a refusal is told."""

import errno
import os
import signal
import sys
from collections.abc import Sequence

from stack import checks, home, install, keeper, one_command, processes, run
from stack.refusal import Refusal, say

UNDER_MAKE = "MAKELEVEL"  # make sets it for its recipes
USAGE = """usage: python3 -m stack COMMAND

  install [--dev]     make .venv and install the locked packages
  lock                compile the hashed locks anew
  run                 start everything and follow it; Ctrl-C stops it
  exec -- COMMAND     run one command with the servers up and the environment set
  check               formatting, lint, types, import directions, migrations
  test [ARGUMENTS]    the same, then pytest with these arguments
"""


def main(arguments: Sequence[str]) -> int:
    """Run one command; every foreseeable failure is one sentence and 1."""
    if os.environ.get(UNDER_MAKE):
        processes.die_with(os.getppid(), signal.SIGTERM)  # a killed `make` takes us with it
    try:
        return _dispatch(list(arguments))
    except Refusal as refusal:
        say(str(refusal))
        return 1
    except OSError as error:
        say(_in_words(error))
        return 1


def _dispatch(arguments: list[str]) -> int:
    match arguments:
        case ["exec", "--", *command] | ["exec", *command] if command:
            return one_command.main(command)
        case ["install", *options] if options in ([], ["--dev"]):
            return install.main(os.environ, dev=bool(options))
        case ["lock"]:
            return install.compile_locks(os.environ)
        case ["run"]:
            return run.main(os.environ)
        case ["check"]:
            return checks.main(os.environ, pytest=None)
        case ["test", *rest]:
            return checks.main(os.environ, pytest=rest)
        case ["keep"]:
            return keeper.main(home.open_home(os.environ))
        case _:
            sys.stderr.write(USAGE)
            return 0 if arguments in (["help"], ["--help"], ["-h"]) else 2


def _in_words(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no disk space is left; free some and start again, nothing acknowledged is lost"
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}"
