"""Streams that died: what of them is billed, by a stated policy, and what is our loss."""

from dataclasses import dataclass
from enum import StrEnum

from billing.settling.losses import Loss

CHARACTERS_A_TOKEN = 4  # the estimator where nobody counted


class CancelPolicy(StrEnum):
    """What a client pays who hangs up."""

    ESTIMATE = "estimate"  # for what was delivered, by its length
    DRAIN = "drain"  # for what the provider counted, whom we let finish
    WAIVE = "waive"  # nothing


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The billed tokens of a request that was cancelled, how good they are, and what is lost."""

    input: int
    output: int
    quality: str
    lost_tokens: int = 0
    loss: Loss | None = None


def cancelled(
    policy: CancelPolicy, *, input_tokens: int, characters: int, drained_output: int | None
) -> Cancelled:
    """Bill a cancelled stream. ValueError to drain without the provider's count."""
    estimated = -(-characters // CHARACTERS_A_TOKEN)
    match policy:
        case CancelPolicy.ESTIMATE:
            return Cancelled(input_tokens, estimated, "estimated")
        case CancelPolicy.DRAIN:
            if drained_output is None:
                raise ValueError("draining needs what the provider counted; estimate instead")
            return Cancelled(input_tokens, drained_output, "valid")
        case CancelPolicy.WAIVE:
            lost = input_tokens + estimated
            return Cancelled(0, 0, "valid", lost, Loss.FAILED_NOT_BILLED)


def without_completion(input_tokens: int) -> Cancelled:
    """Waive a request that failed before its first token; the provider charges us all the same."""
    return Cancelled(0, 0, "valid", input_tokens, Loss.FAILED_NOT_BILLED)
