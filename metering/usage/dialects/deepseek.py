"""DeepSeek: OpenAI's shape, and the prompt told apart into cache hits and misses."""

from metering.usage.dialects.table import Dialect, Row, Sum

HIT, MISS = "prompt_cache_hit_tokens", "prompt_cache_miss_tokens"

DIALECT = Dialect(
    name="deepseek",
    title="DeepSeek",
    rows=(
        Row("prompt_tokens", "input"),
        Row(HIT, "cache_read", ("prompt_tokens",)),
        Row(MISS, None, ("prompt_tokens",)),
        Row("completion_tokens", "output"),
        Row("completion_tokens_details.reasoning_tokens", "reasoning", ("completion_tokens",)),
        Row("total_tokens"),
    ),
    required=("prompt_tokens",),
    sums=(
        Sum("total_tokens", ("prompt_tokens", "completion_tokens")),
        Sum("prompt_tokens", (HIT, MISS)),
    ),
    same={"prompt_tokens_details.cached_tokens": HIT},
)
