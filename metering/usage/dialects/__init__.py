"""From what a provider reports to disjoint registers, one provider a file. Pure.

docs/reference/dialects.md is made from these rows, and a test compares the two.
"""

from metering.usage.dialects import (
    anthropic,
    dashscope,
    deepseek,
    gemini,
    openai,
    opentelemetry,
    vllm,
)
from metering.usage.dialects.table import Dialect

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        openai.CHAT,
        openai.RESPONSES,
        anthropic.DIALECT,
        gemini.DIALECT,
        dashscope.DIALECT,
        deepseek.DIALECT,
        vllm.DIALECT,
        opentelemetry.DIALECT,
    )
}
