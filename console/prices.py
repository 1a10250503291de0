"""A tariff's prices as staff read them: a table, drawings of blocks and tiers, sentences."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from django.template.loader import render_to_string

from billing import costs, terms_drawn
from billing.rating.money import written
from billing.rating.tariff import Terms
from billing.terms_drawn import Drawing
from billing.terms_in_words import charge_sentences, model_words, modifier_sentences, size_words

DRAWN_MAX = 24


class Drawn(NamedTuple):
    """A drawing, what it is of, and in words what it shows."""

    what: str
    unit: str
    drawing: Drawing
    words: str


def table(terms: Terms, caption: str) -> str:
    """The prices of a tariff's terms, as HTML."""
    context = {
        "caption": caption,
        "rows": costs.price_table(terms),
        "drawings": list(islice(_drawings(terms), DRAWN_MAX)),
        "besides": modifier_sentences(terms) + charge_sentences(terms),
    }
    return render_to_string("console/prices.html", context)


def _drawings(terms: Terms) -> Iterator[Drawn]:
    for component in terms.components:
        drawing = terms_drawn.draw(component)
        if drawing is not None:
            models = model_words(component.models, "any model")
            words = (
                f"{size_words(step.above, step.up_to)}: {written(step.price, terms.currency)}"
                for step in drawing.steps
            )
            yield Drawn(
                f"{costs.what_is_priced(component)} of {models}",
                costs.unit_words(component),
                drawing,
                "; ".join(words),
            )
