"""Runs manage.py commands as processes of their own, without importing everything each time.

Reads one JSON list of arguments a line, forks, and answers with the exit code and what was said.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import traceback

import django
from django.core.management import execute_from_command_line


def main() -> None:
    """Serve until standard input ends."""
    django.setup()
    for line in sys.stdin:
        with tempfile.TemporaryFile() as output:
            child = os.fork()  # nothing is connected and no thread runs here, so this is safe
            if child == 0:
                _become(json.loads(line), output.fileno())
            _, status = os.waitpid(child, 0)
            output.seek(0)
            said = output.read().decode()
        answer = {"code": os.waitstatus_to_exitcode(status), "said": said}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def _become(arguments: list[str], output: int) -> None:
    """Be `manage.py arguments`, and end."""
    for stream in (1, 2):
        os.dup2(output, stream)
    code = 0
    try:
        execute_from_command_line(["manage.py", *arguments])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
