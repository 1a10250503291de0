"""Prepayment: reserve the worst case, cap what can be put out, settle, repay what was lent."""

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal, localcontext
from enum import StrEnum

from billing.rating.money import EXACT

MTOK = 1_000_000


class Shortfall(StrEnum):
    """What to do with a request that the balance may not cover."""

    REJECT = "reject"
    CAP = "cap"  # let it run with fewer tokens of output


class State(StrEnum):
    """Where a prepaid balance stands."""

    NORMAL = "normal"
    LOW = "low"
    EMERGENCY = "emergency"
    EXHAUSTED = "exhausted"


@dataclass(frozen=True, slots=True)
class Request:
    """What a request may cost: its input is known, its output bounded."""

    input_tokens: int
    output_tokens_max: int
    input_price: Decimal  # per million
    output_price: Decimal

    @property
    def worst(self) -> Decimal:
        """Return the amount to reserve."""
        return self.cost(self.output_tokens_max)

    def cost(self, output_tokens: int) -> Decimal:
        with localcontext(EXACT):
            known = self.input_price * self.input_tokens
            return (known + self.output_price * output_tokens).scaleb(-6)


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether a request may run, with at most how much output, and what is reserved for it."""

    admitted: bool
    output_tokens_max: int
    reserved: Decimal


@dataclass(frozen=True, slots=True)
class Repayment:
    """Where a top-up goes, in this order; old debt takes a share of what is left."""

    emergency: Decimal
    friendly: Decimal
    debt: Decimal
    debt_left: Decimal
    credit: Decimal


def admit(
    request: Request, balance: Decimal, *, emergency_credit: Decimal, policy: Shortfall
) -> Admission:
    """Decide on a request before it starts. Zero is spent beyond balance and emergency credit."""
    with localcontext(EXACT):
        available = balance + emergency_credit
    if request.worst <= available:
        return Admission(True, request.output_tokens_max, request.worst)
    capped = affordable_output(request, available)
    if policy is Shortfall.REJECT or capped < 1:
        return Admission(False, 0, Decimal(0))
    return Admission(True, capped, request.cost(capped))


def affordable_output(request: Request, available: Decimal) -> int:
    """Return how many output tokens the rest of the balance pays after the input, rounded down."""
    rest = available - request.cost(0)
    if rest < 0:
        return 0
    if not request.output_price:
        return request.output_tokens_max
    tokens = rest * MTOK / request.output_price
    return min(request.output_tokens_max, int(tokens.to_integral_value(rounding=ROUND_FLOOR)))


def settle(balance: Decimal, cost: Decimal) -> tuple[Decimal, Decimal]:
    """Take a cost from a balance; return what is left, and how much of it was lent."""
    with localcontext(EXACT):
        left = balance - cost
    return left, max(Decimal(0), -left) - max(Decimal(0), -balance)


def state(balance: Decimal, *, low: Decimal, emergency_credit: Decimal) -> State:
    """Say where a balance stands."""
    if balance > low:
        return State.NORMAL
    if balance > 0:
        return State.LOW
    return State.EMERGENCY if balance > -emergency_credit else State.EXHAUSTED


def repay(
    top_up: Decimal,
    *,
    emergency: Decimal,
    friendly: Decimal,
    debt: Decimal,
    debt_percent: Decimal,
) -> Repayment:
    """Divide a top-up: emergency credit, friendly-hours debt, a share for old debt, the rest."""
    with localcontext(EXACT):
        of_emergency = min(top_up, emergency)
        of_friendly = min(top_up - of_emergency, friendly)
        rest = top_up - of_emergency - of_friendly
        of_debt = min(debt, rest * debt_percent / 100)
        return Repayment(of_emergency, of_friendly, of_debt, debt - of_debt, rest - of_debt)
