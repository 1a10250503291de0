"""What the machine room says to people: a refusal is one clear sentence, never a traceback."""

import sys


class Refusal(Exception):
    """What is wrong and what to do about it, in one sentence; the command ends with 1."""


def say(words: str) -> None:
    """Tell the person at the terminal; standard output stays free for the command's own."""
    sys.stderr.write(f"kilotoken: {words}\n")
    sys.stderr.flush()
