"""From what a provider reports to disjoint registers: no token in two of them, and none nowhere.

Providers differ in what is part of what. OpenAI counts cached tokens inside the prompt, Anthropic
beside it; most count reasoning inside the output, Gemini beside it. Each dialect takes the parts
out of their whole and checks the provider's own total. Where the numbers contradict each other it
raises InconsistentUsage with those numbers: a clamp would bill something that nobody reported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Usage = Mapping[str, Any]


@dataclass(frozen=True)
class Measured:
    """Quantities by register; and classes of tokens that no rule here knows by name.

    An unknown class that is part of a whole is a register of its own in `usage`. One that stands
    beside the totals is named here only, because nobody can say whether it is counted already.
    """

    usage: dict[str, int]
    unknown: tuple[str, ...] = ()


class UnreadableUsage(ValueError):
    """The usage cannot be turned into registers."""

    code = "unreadable_usage"

    def __init__(self, detail: str, usage: Usage) -> None:
        super().__init__(detail)
        self.shown = {"reported": dict(usage)}


class InconsistentUsage(UnreadableUsage):
    """The provider's numbers contradict each other."""

    code = "inconsistent_usage"


MEDIA = ("audio", "image", "video")

# Parts of a whole, by the provider's name for them. None: it stays in what is left of the whole.
INPUT_PARTS: Mapping[str, str | None] = {
    "cached_tokens": "cache_read",
    "cache_write_tokens": "cache_write",  # OpenAI
    "cache_creation_input_tokens": "cache_write",  # Qwen
    "audio_tokens": "input_audio",
    "image_tokens": "input_image",
    "video_tokens": "input_video",
    "tool_use_tokens": "tool_use",  # LiteLLM
    "text_tokens": None,
}
OUTPUT_PARTS: Mapping[str, str | None] = {
    "reasoning_tokens": "reasoning",
    "thinking_tokens": "reasoning",  # Anthropic
    "audio_tokens": "output_audio",
    "image_tokens": "output_image",
    "video_tokens": "output_video",
    "text_tokens": None,
    "accepted_prediction_tokens": None,  # billed as any output
    "rejected_prediction_tokens": None,
}


class _Pour:
    """Pours one provider's totals over registers and keeps the books."""

    def __init__(self, usage: Usage, dialect: str) -> None:
        self.usage, self.dialect = usage, dialect
        self.registers: dict[str, int] = {}
        self.unknown: list[str] = []

    def number(self, name: str, within: Usage | None = None) -> int:
        """A count by name; what is missing or null is none."""
        value = (self.usage if within is None else within).get(name)
        if value is None:
            return 0
        if type(value) is not int or value < 0:
            raise InconsistentUsage(f"{self.dialect}: {name} is {value!r}, no count", self.usage)
        return value

    def details(self, *names: str) -> dict[str, Any]:
        """Breakdowns, laid over each other."""
        found: dict[str, Any] = {}
        for name in names:
            found.update(self.usage.get(name) or {})
        return found

    def add(self, register: str, tokens: int) -> None:
        """Count tokens into a register, once."""
        self.registers[register] = self.registers.get(register, 0) + tokens

    def equal(self, left: int, right: int, equation: str) -> None:
        """State an equation between the provider's numbers."""
        if left != right:
            raise InconsistentUsage(f"{self.dialect}: {equation} fails, {left} != {right}",
                                    self.usage)  # fmt: skip

    def whole(self, rest: str, total: int, details: Usage, parts: Mapping[str, str | None]) -> None:
        """Take the parts out of their whole; what is left goes to the register `rest`."""
        taken = 0
        for name, register in self._parts(rest, details, parts):
            tokens = self.number(name, details)
            taken += tokens
            self.add(register, tokens)
        if taken > total:
            raise InconsistentUsage(
                f"{self.dialect}: the parts of {rest} are {taken}, more than its {total} tokens",
                self.usage,
            )
        self.add(rest, total - taken)

    def _parts(
        self, rest: str, details: Usage, parts: Mapping[str, str | None]
    ) -> Iterator[tuple[str, str]]:
        for name, value in details.items():
            if name in parts:
                if (register := parts[name]) is not None:
                    yield name, register
            elif name.endswith("_tokens") and type(value) is int and value:
                plain = re.sub(r"[^a-z0-9_]", "_", name.removesuffix("_tokens").lower())
                self.unknown.append(f"{rest}_{plain}"[:40])
                yield name, self.unknown[-1]

    def move(self, source: str, target: str, tokens: int) -> None:
        """Tell a part of a register apart."""
        left = self.registers.get(source, 0) - tokens
        if left < 0:
            raise InconsistentUsage(
                f"{self.dialect}: {target} {tokens} is more than the {source} it is part of",
                self.usage,
            )
        self.registers[source] = left
        self.add(target, tokens)

    def beside(self, known: frozenset[str]) -> None:
        """Report counts next to the totals that no rule knows."""
        self.unknown += [
            name
            for name, value in self.usage.items()
            if name.endswith("_tokens") and type(value) is int and value and name not in known
        ]

    def measured(self) -> Measured:
        """Input and output, and whichever other register holds anything."""
        for name in ("input", "output"):
            self.registers.setdefault(name, 0)
        kept = {n: q for n, q in self.registers.items() if q or n in ("input", "output")}
        return Measured(kept, tuple(self.unknown))


_OPENAI_KNOWN = frozenset({
    "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens",
    "prompt_cache_hit_tokens", "prompt_cache_miss_tokens", "cache_read_input_tokens",
    "cache_creation_input_tokens",
})  # fmt: skip


def openai_chat(usage: Usage, dialect: str = "openai_chat") -> Measured:
    """Chat completions, completions and embeddings; vLLM and others that speak the same."""
    pour = _Pour(usage, dialect)
    _openai(pour, "prompt_tokens", "completion_tokens",
            pour.details("prompt_tokens_details"),
            pour.details("completion_tokens_details"))  # fmt: skip
    return pour.measured()


def vllm(usage: Usage) -> Measured:
    """vLLM: as OpenAI's, with cached tokens only where --enable-prompt-tokens-details is on.

    It names media in a breakdown of its own; what it wrote to its cache stays in the input.
    """
    details = dict(usage.get("prompt_tokens_details") or {})
    details.pop("created_cache_tokens", None)
    for medium, tokens in (details.pop("multimodal_tokens", None) or {}).items():
        details[f"{medium}_tokens"] = tokens
    return openai_chat({**usage, "prompt_tokens_details": details}, "vllm")


def openai_responses(usage: Usage) -> Measured:
    """The Responses API; also images and transcriptions, which spell one breakdown otherwise."""
    pour = _Pour(usage, "openai_responses")
    _openai(pour, "input_tokens", "output_tokens",
            pour.details("input_token_details", "input_tokens_details"),
            pour.details("output_token_details", "output_tokens_details"))  # fmt: skip
    return pour.measured()


def deepseek(usage: Usage) -> Measured:
    """DeepSeek: OpenAI's shape, and the prompt told apart into cache hits and misses."""
    pour = _Pour(usage, "deepseek")
    hit, prompt = pour.number("prompt_cache_hit_tokens"), pour.number("prompt_tokens")
    pour.equal(hit + pour.number("prompt_cache_miss_tokens"), prompt, "hit + miss = prompt")
    details = pour.details("prompt_tokens_details")
    if details.get("cached_tokens") is not None:
        pour.equal(pour.number("cached_tokens", details), hit, "cached = hit")
    _openai(pour, "prompt_tokens", "completion_tokens", {**details, "cached_tokens": hit},
            pour.details("completion_tokens_details"))  # fmt: skip
    return pour.measured()


def qwen(usage: Usage) -> Measured:
    """Qwen: compatible mode as OpenAI's, DashScope's own with other names for the totals."""
    pour = _Pour(usage, "qwen")
    if "prompt_tokens" in usage:
        return openai_chat(usage, "qwen")
    media = {name: usage[name] for name in ("image_tokens", "audio_tokens", "video_tokens")
             if usage.get(name) is not None}  # fmt: skip
    _openai(pour, "input_tokens", "output_tokens",
            {**media, **pour.details("input_tokens_details", "prompt_tokens_details")},
            pour.details("output_tokens_details"), frozenset(media))  # fmt: skip
    return pour.measured()


def litellm(usage: Usage) -> Measured:
    """LiteLLM's own usage: OpenAI's shape for all, cache reads and writes inside the prompt."""
    pour = _Pour(usage, "litellm")
    details = pour.details("prompt_tokens_details")
    # It says the same twice, under OpenAI's name and Anthropic's, and again beside the totals.
    other = details.pop("cache_creation_tokens", None)
    beside = usage.get("cache_creation_input_tokens")
    details["cache_write_tokens"] = details.get("cache_write_tokens") or other or beside
    if details.get("cached_tokens") is None:
        details["cached_tokens"] = usage.get("cache_read_input_tokens")
    details["cache_creation"] = details.pop("cache_creation_token_details", None)
    _openai(pour, "prompt_tokens", "completion_tokens", details,
            pour.details("completion_tokens_details"))  # fmt: skip
    tools = usage.get("server_tool_use") or {}
    pour.add("web_search", pour.number("web_search_requests", tools))
    return pour.measured()


def _openai(
    pour: _Pour,
    prompt: str,
    completion: str,
    inputs: Usage,
    outputs: Usage,
    more: frozenset[str] = frozenset(),
) -> None:
    """Totals that include their parts, and a total of totals where there is one."""
    sent, made = pour.number(prompt), pour.number(completion)
    if pour.usage.get("total_tokens") is not None:
        total = pour.number("total_tokens")
        pour.equal(sent + made, total, f"{prompt} + {completion} = total_tokens")
    cached = inputs.get("cached_tokens_details") or {}
    pour.whole("input", sent, _without_cached_media(pour, inputs, cached), INPUT_PARTS)
    pour.whole("output", made, outputs, OUTPUT_PARTS)
    for medium in MEDIA:
        if tokens := pour.number(f"{medium}_tokens", cached):
            pour.move("cache_read", f"cache_read_{medium}", tokens)
    _cache_writes_by_age(pour, inputs)
    pour.beside(_OPENAI_KNOWN | more)


def _without_cached_media(pour: _Pour, inputs: Usage, cached: Usage) -> Usage:
    """The parts of the input, each once: cached audio is in the cached tokens and in the audio.

    Where it is not told apart, cached tokens are taken to be text.
    """
    left = dict(inputs)
    for medium in MEDIA:
        name = f"{medium}_tokens"
        if tokens := pour.number(name, cached):
            left[name] = pour.number(name, inputs) - tokens
            if left[name] < 0:
                raise InconsistentUsage(
                    f"{pour.dialect}: cached {name} {tokens} is more than all {name}", pour.usage
                )
    return left


def _cache_writes_by_age(pour: _Pour, details: Usage) -> None:
    """A breakdown of cache writes by how long they live; the shortest is the plain register."""
    ages = details.get("cache_creation") or {}
    if ages:
        _ages(pour, ages, "ephemeral_5m_input_tokens", {"ephemeral_1h_input_tokens": "1h"})
    ages = details.get("cache_write_tokens_details") or {}
    if ages:
        _ages(pour, ages, "ttl_30m_tokens", {"ttl_12h_tokens": "12h"})


def _ages(pour: _Pour, ages: Usage, shortest: str, longer: Mapping[str, str]) -> None:
    known = {shortest, *longer, "cache_creation_input_tokens"}
    told = pour.number(shortest, ages) + sum(pour.number(name, ages) for name in longer)
    others = [name for name in ages if name.endswith("_tokens") and name not in known]
    told += sum(pour.number(name, ages) for name in others)
    pour.equal(told, pour.registers.get("cache_write", 0), "cache writes by age = cache writes")
    for name, age in longer.items():
        pour.move("cache_write", f"cache_write_{age}", pour.number(name, ages))
    for name in others:
        if tokens := pour.number(name, ages):
            register = f"cache_write_{name.split('_')[1]}"[:40]
            pour.unknown.append(register)
            pour.move("cache_write", register, tokens)


_ANTHROPIC_KNOWN = frozenset({
    "input_tokens", "output_tokens", "cache_creation_input_tokens", "cache_read_input_tokens",
})  # fmt: skip


def anthropic(usage: Usage) -> Measured:
    """Messages: the input leaves out what was read from the cache and written to it."""
    pour = _Pour(usage, "anthropic")
    _anthropic_once(pour, usage)
    for entry in usage.get("iterations") or ():
        # Compaction is extra; every other kind is in the totals, or another model's.
        if entry.get("type") == "compaction":
            _anthropic_once(pour, entry)
        elif entry.get("type") not in ("message", None):
            pour.unknown.append(f"iterations/{entry['type']}")
    tools = usage.get("server_tool_use") or {}
    pour.add("web_search", pour.number("web_search_requests", tools))
    pour.beside(_ANTHROPIC_KNOWN)
    return pour.measured()


def _anthropic_once(pour: _Pour, usage: Usage) -> None:
    written = pour.number("cache_creation_input_tokens", usage)
    ages = usage.get("cache_creation") or {}
    apart = _Pour(pour.usage, "anthropic")
    apart.add("cache_write", written)
    _cache_writes_by_age(apart, {"cache_creation": ages})
    apart.add("input", pour.number("input_tokens", usage))
    apart.add("cache_read", pour.number("cache_read_input_tokens", usage))
    outputs = usage.get("output_tokens_details") or {}
    apart.whole("output", pour.number("output_tokens", usage), outputs, OUTPUT_PARTS)
    for register, tokens in apart.registers.items():
        pour.add(register, tokens)
    pour.unknown += apart.unknown


_GEMINI_MEDIA = {"AUDIO": "audio", "IMAGE": "image", "VIDEO": "video", "DOCUMENT": "document"}
_GEMINI_KNOWN = frozenset({
    "prompt_token_count", "cached_content_token_count", "candidates_token_count",
    "thoughts_token_count", "tool_use_prompt_token_count", "total_token_count",
    "response_token_count",
})  # fmt: skip


def gemini(usage: Usage) -> Measured:
    """Gemini: cached content inside the prompt; thoughts and tool prompts beside the rest."""
    plain = {_snake(name): value for name, value in usage.items()}
    pour = _Pour(plain, "gemini")
    prompt, thoughts = pour.number("prompt_token_count"), pour.number("thoughts_token_count")
    made = pour.number("candidates_token_count") + pour.number("response_token_count")
    tools = pour.number("tool_use_prompt_token_count")
    if plain.get("total_token_count") is not None:
        pour.equal(prompt + made + thoughts + tools, pour.number("total_token_count"),
                   "prompt + candidates + thoughts + tool use = total")  # fmt: skip
    cached = _media(pour, "cache_tokens_details")
    parts = {"cached": pour.number("cached_content_token_count"),
             **_media(pour, "prompt_tokens_details")}  # fmt: skip
    for medium, tokens in cached.items():  # cached audio is in both breakdowns: count it once
        if parts.get(medium, 0) < tokens:
            raise InconsistentUsage(f"gemini: {tokens} cached {medium} tokens are more than sent",
                                    plain)  # fmt: skip
        parts[medium] -= tokens
    registers = {name: f"input_{name}" for name in parts} | {"cached": "cache_read"}
    pour.whole("input", prompt, parts, registers)
    for medium, tokens in cached.items():
        pour.move("cache_read", f"cache_read_{medium}", tokens)
    out = _media(pour, "candidates_tokens_details", "response_tokens_details")
    pour.whole("output", made, out, {name: f"output_{name}" for name in out})
    pour.add("reasoning", thoughts)
    pour.add("tool_use", tools)
    pour.unknown += [name for name, value in plain.items() if name.endswith("_token_count")
                     and name not in _GEMINI_KNOWN and value]  # fmt: skip
    return pour.measured()


def _media(pour: _Pour, *names: str) -> dict[str, int]:
    """A breakdown by modality without its text, which is what is left."""
    found: dict[str, int] = {}
    for name in names:
        for entry in pour.usage.get(name) or ():
            part = {_snake(key): value for key, value in entry.items()}
            modality = part.get("modality")
            modality = str(getattr(modality, "value", modality)).upper()
            if modality in ("TEXT", "MODALITY_UNSPECIFIED"):
                continue
            medium = _GEMINI_MEDIA.get(modality)
            if medium is None:
                medium = re.sub(r"[^a-z0-9_]", "_", modality.lower())[:24]
                pour.unknown.append(medium)
            found[medium] = found.get(medium, 0) + pour.number("token_count", part)
    return found


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


DIALECTS: Mapping[str, Callable[[Usage], Measured]] = {
    "openai_chat": openai_chat,
    "openai_responses": openai_responses,
    "anthropic": anthropic,
    "gemini": gemini,
    "qwen": qwen,
    "deepseek": deepseek,
    "vllm": vllm,
    "litellm": litellm,
}


def read(usage: object, dialect: str | None = None) -> Measured:
    """Registers from a usage object or mapping, by the named dialect or the one its shape tells."""
    plain = as_mapping(usage)
    name = dialect or _told_by_shape(plain)
    if name not in DIALECTS:
        raise UnreadableUsage(f"{name!r} is no dialect; there are {', '.join(DIALECTS)}", plain)
    try:
        return DIALECTS[name](plain)
    except (TypeError, AttributeError, ValueError) as error:
        if isinstance(error, UnreadableUsage):
            raise
        raise UnreadableUsage(f"{name}: its members are not of the known kinds", plain) from error


def _told_by_shape(usage: Usage) -> str:
    if "prompt_token_count" in usage or "promptTokenCount" in usage:
        return "gemini"
    if "prompt_cache_hit_tokens" in usage:
        return "deepseek"
    if "prompt_tokens" in usage:
        return "openai_chat"
    if "input_tokens" not in usage:
        raise UnreadableUsage("no dialect has usage of this shape; name one", usage)
    if "cache_read_input_tokens" in usage or "total_tokens" not in usage:
        return "anthropic"
    return "qwen" if "prompt_tokens_details" in usage else "openai_responses"


def as_mapping(usage: object) -> Usage:
    """An SDK's object as plain mappings and lists."""
    if isinstance(usage, Mapping):
        return usage
    dump = getattr(usage, "model_dump", None)
    plain = dump() if callable(dump) else getattr(usage, "__dict__", None)
    if not isinstance(plain, Mapping):
        raise UnreadableUsage(f"{type(usage).__name__} is no usage object", {})
    return plain
