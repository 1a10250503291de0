"""What became of an accepted event: exactly one fate, by one rule. Pure.

An event has several registers, and a register's quantity may be shared between lines. The fate of
the event is the first, in the order of `Fate`, that any of its registers met; the registers each
have their own beneath it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from enum import StrEnum
from typing import NamedTuple

from billing.rating.line import ALLOWANCE, UNPRICED, LineKey
from billing.rating.package import PACKAGES


class Fate(StrEnum):
    """What an event came to, in order of precedence."""

    VOID = "void"  # taken back
    PENDING = "pending"  # on no issued document yet
    BILLED = "billed"  # on an issued line that has a price
    UNPRICED = "unpriced"  # no price covers it, and nobody pays for it
    FREE = "free"  # from an allowance, or at a price of zero


class Reason(StrEnum):
    """Why it has that fate; each has a sentence in SENTENCES."""

    VOIDED = "voided"
    AMENDED = "amended"
    REVERTED = "backfill_reverted"
    NOT_APPLIED = "not_in_readings"
    FAILED = "batch_failed"
    HELD = "backfill_open"
    PERIOD_OPEN = "period_open"
    PERIOD_ENDED = "period_not_invoiced"
    INVOICE_VOID = "invoice_void"
    DIFFERENCE_DUE = "difference_due"
    PRICED = "priced"
    NO_SUBSCRIPTION = "no_subscription"
    NO_PRICE = "no_price"
    NOT_CHARGED = "allowance_or_zero_price"
    NOTHING_USED = "nothing_used"


SENTENCES = {
    Reason.VOIDED: "A void took it back: it counts nowhere.",
    Reason.AMENDED: "An amendment counts in its place.",
    Reason.REVERTED: "The backfill it came in was reverted: it counts nowhere.",
    Reason.NOT_APPLIED: "Its batch is not in the readings yet; that takes seconds.",
    Reason.FAILED: "Its batch could not be added to the readings; an operator has to see to it.",
    Reason.HELD: "The backfill it came in is still open; it counts once that is closed.",
    Reason.PERIOD_OPEN: "Its billing period is not over; the invoice is issued after its end.",
    Reason.PERIOD_ENDED: "Its billing period is over, and the invoice is not issued yet.",
    Reason.INVOICE_VOID: "The invoice of its period is void; another one will take its place.",
    Reason.DIFFERENCE_DUE: (
        "The invoice of its period was issued before it counted: the next invoice carries the "
        "difference."
    ),
    Reason.PRICED: "It is on an issued invoice, at a price.",
    Reason.NO_SUBSCRIPTION: "No subscription was in force when it happened, so it has no price.",
    Reason.NO_PRICE: "It is on an issued invoice, but no price of the tariff covers it.",
    Reason.NOT_CHARGED: "It is on an issued invoice, as free tokens or at a price of zero.",
    Reason.NOTHING_USED: "It reports no quantity that anything could be charged for.",
}


class Verdict(NamedTuple):
    """A fate and why."""

    fate: Fate
    reason: Reason

    @property
    def sentence(self) -> str:
        return SENTENCES[self.reason]


PRECEDENCE = {fate: rank for rank, fate in enumerate(Fate)}
_OF_REGISTERS = {
    Fate.PENDING: Reason.DIFFERENCE_DUE,
    Fate.BILLED: Reason.PRICED,
    Fate.UNPRICED: Reason.NO_PRICE,
    Fate.FREE: Reason.NOT_CHARGED,
}
# Where its batch stands, if not in the readings.
_OF_BATCHES = {
    "pending": Verdict(Fate.PENDING, Reason.NOT_APPLIED),
    "failed": Verdict(Fate.PENDING, Reason.FAILED),
    "held": Verdict(Fate.PENDING, Reason.HELD),
    "reverting": Verdict(Fate.VOID, Reason.REVERTED),
    "reverted": Verdict(Fate.VOID, Reason.REVERTED),
}


def first(fates: Iterable[Fate]) -> Fate:
    """The fate that goes before the others. ValueError if there are none."""
    return min(fates, key=PRECEDENCE.__getitem__)


def of_line(key: LineKey, besides: Collection[LineKey] = ()) -> Fate:
    """The fate of a quantity on an issued line. `besides` are the document's other lines: what is
    sold in packages stands at a price of zero beside the packages."""
    if key.component.startswith(ALLOWANCE):
        return Fate.FREE
    if key.component == UNPRICED:
        return Fate.UNPRICED
    in_packages = any(
        other.register == PACKAGES
        and (other.version, other.component, other.model) == (key.version, key.component, key.model)
        for other in besides
    )
    return Fate.BILLED if key.unit_price or in_packages else Fate.FREE


def of_register(fate: Fate) -> Verdict:
    """The fate that documents decided on, with its reason."""
    return Verdict(fate, _OF_REGISTERS[fate])


def of_event(
    batch_state: str,
    *,
    taken_back: Reason | None = None,
    unbilled: Reason | None = None,
    late: bool = False,
    registers: Collection[Fate] = (),
) -> Verdict:
    """The one fate of an event.

    taken_back: VOIDED or AMENDED, where that is so. unbilled: why its period has no issued invoice
    (NO_SUBSCRIPTION where there is no period); None where it has one. late: applied after the last
    document that looked at the period. registers: the fates of its registers, if the period is
    billed; those without a quantity are left out.
    """
    if taken_back is not None:
        return Verdict(Fate.VOID, taken_back)
    if batch_state in _OF_BATCHES:
        return _OF_BATCHES[batch_state]
    if unbilled is Reason.NO_SUBSCRIPTION:
        return Verdict(Fate.UNPRICED, unbilled)
    if unbilled is not None:
        return Verdict(Fate.PENDING, unbilled)
    if late:
        return Verdict(Fate.PENDING, Reason.DIFFERENCE_DUE)
    if not registers:
        return Verdict(Fate.FREE, Reason.NOTHING_USED)
    return of_register(first(registers))
