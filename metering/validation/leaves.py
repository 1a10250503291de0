"""Provider dialects made disjoint: who reports cached tokens inside the prompt counts them twice.

OpenAI and Alibaba report a prompt with its cached and written tokens inside, Anthropic without.
A register is inside another if that one's dimensions are part of its own.
"""

from collections.abc import Mapping

from metering.usage.event import Rejected

# Which register a report counts inside which, innermost first.
INSIDE: Mapping[str, str] = {
    "cache_read_audio": "cache_read",
    "cache_read_document": "cache_read",
    "cache_read_image": "cache_read",
    "cache_read_video": "cache_read",
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "input",
    "cache_write_12h": "input",
    "input_audio": "input",
    "input_document": "input",
    "input_image": "input",
    "input_video": "input",
    "reasoning": "output",
    "output_audio": "output",
    "output_document": "output",
    "output_image": "output",
    "output_video": "output",
}


def disjoint(reported: Mapping[str, int], inside: Mapping[str, str] = INSIDE) -> dict[str, int]:
    """Take from each register what others count inside it. Rejected if that is more than it has.

    The sum of the result is the sum of what is reported at the root: nothing is counted twice.
    """
    leaves = dict(reported)
    for register, quantity in reported.items():
        outer = inside.get(register)
        while outer is not None and outer not in leaves:
            outer = inside.get(outer)
        if outer is not None:
            leaves[outer] -= quantity
    for register, quantity in leaves.items():
        if quantity < 0:
            raise Rejected(
                "negative_quantity",
                f"/usage/{register}",
                f"{register} is less than what is reported inside it, by {-quantity}. Check which "
                "registers your provider counts inside others.",
            )
    return leaves
