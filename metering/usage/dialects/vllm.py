"""vLLM: OpenAI's chat shape; cached tokens only with --enable-prompt-tokens-details."""

from dataclasses import replace

from metering.usage.dialects.openai import CHAT

DIALECT = replace(CHAT, name="vllm", title="vLLM, and servers that speak as it does")
