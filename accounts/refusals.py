"""What an action says when it cannot do what was asked: which field, and one sentence."""

from __future__ import annotations


class Refusal(Exception):
    """Nothing was changed. `field` names the argument at fault; empty when none alone is."""

    def __init__(self, field: str, sentence: str) -> None:
        super().__init__(sentence)
        self.field = field
        self.sentence = sentence
