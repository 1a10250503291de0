"""What reads like a credential, ours or another's, sent where a name was meant. Pure.

A name is looked at only if it begins like one: prefixes cost nothing where a million names pass.
"""

import re

from accounts.keys import holds_secret, masked

STARTS = ("sk-", "sk_live_", "rk_live_", "gh", "AKIA", "AIza", "hf_", "gsk_", "xox", "eyJ")
_SHAPES = re.compile(
    r"""(?<![A-Za-z0-9])(?:
    sk-(?:proj|ant|svcacct|admin|or-v1)-[A-Za-z0-9_-]{32,}  # OpenAI, Anthropic, OpenRouter
    | sk-[A-Za-z0-9]{32,}                                   # OpenAI, DeepSeek, DashScope
    | [sr]k_live_[A-Za-z0-9]{20,}                           # Stripe
    | gh[oprsu]_[A-Za-z0-9]{36,}                            # GitHub
    | AKIA[A-Z0-9]{16}                                      # Amazon
    | AIza[A-Za-z0-9_-]{35}                                 # Google
    | (?:hf|gsk)_[A-Za-z0-9]{32,}                           # Hugging Face, Groq
    | xox[abeprs]-[A-Za-z0-9-]{20,}                         # Slack
    | eyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*  # JSON web tokens
    )""",
    re.ASCII | re.VERBOSE,
)


def reads_like_one(name: str) -> bool:
    """Whether a name holds a key of ours, or is one of another's."""
    return holds_secret(name) or (name.startswith(STARTS) and _SHAPES.match(name) is not None)


def hidden(text: str) -> str:
    """A text of some kilobytes with every credential in it left out."""
    return _SHAPES.sub(lambda found: f"{found[0][:4]}...", masked(text))
