"""`python3 -m stack`: only asks whether this Python will do, in words an old one understands."""

import os
import shutil
import sys

OLDEST = (3, 11)
NEWER = ["python3.14", "python3.13", "python3.12", "python3.11"]


def main() -> int:
    """Hand over to a newer Python on the PATH if this one is too old; then run the command."""
    if sys.version_info < OLDEST:
        found = [path for path in map(shutil.which, NEWER) if path]
        if found:
            os.execv(found[0], [found[0], "-m", "stack", *sys.argv[1:]])
        sys.stderr.write(
            "kilotoken: Python 3.11 or newer is needed and this is {}.{}; "
            "install one, or name it: make run PYTHON=/path/to/python3.11\n".format(
                *sys.version_info[:2]
            )
        )
        return 1
    try:
        from stack.commands import main as run_command

        return run_command(sys.argv[1:])
    except KeyboardInterrupt:  # also while importing
        return 130


if __name__ == "__main__":
    sys.exit(main())
