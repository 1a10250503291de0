"""A LiteLLM callback that meters every completion. Imports litellm only when it is called.

    import litellm
    from kilotoken.litellm_callback import callback

    litellm.callbacks = [callback(meter)]

A call's own labels go into its metadata: `metadata={"kilotoken": {"session": "run-7"}}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from kilotoken.writing import kept_soon

if TYPE_CHECKING:
    from kilotoken.meter import Meter, Offer


def callback(meter: Meter, *, cache_hits: bool = False) -> Any:
    """A `CustomLogger` for `litellm.callbacks`.

    Answers from LiteLLM's own cache used no model; `cache_hits` records them all the same.
    """
    from litellm.integrations.custom_logger import CustomLogger

    class KilotokenLogger(CustomLogger):  # type: ignore[misc]
        """Hands each finished call to the meter."""

        def log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            offer_call(meter, kwargs, response_obj, start_time, cache_hits=cache_hits)

        async def async_log_success_event(
            self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
        ) -> None:
            offer = offer_call(meter, kwargs, response_obj, start_time, cache_hits=cache_hits)
            if offer:
                await kept_soon(offer.kept, meter.wait_s)

    return KilotokenLogger()


def offer_call(
    meter: Meter,
    kwargs: Mapping[str, Any],
    response: Any,
    started_at: datetime,
    *,
    cache_hits: bool,
) -> Offer | None:
    """Record one call as LiteLLM describes it."""
    usage = _member(response, "usage")
    if kwargs.get("cache_hit") and not cache_hits:
        return None
    if usage is None and kwargs.get("stream"):
        return None  # a chunk; the whole is reported once the stream has ended
    fields: dict[str, Any] = {
        "model": kwargs.get("model") or "unknown",
        # LiteLLM's instants are naive and local; its call id is one per call, however often told.
        "occurred_at": started_at.astimezone(timezone.utc),
        "id": kwargs.get("litellm_call_id"),
        **_labels(kwargs),
    }
    if tier := _member(response, "service_tier"):
        fields["service_class"] = tier
    if usage is None:
        meter.unmeasured("usage_not_reported", "LiteLLM reported no usage", fields)
        return None
    return meter.offer_usage(usage, dialect=_dialect(usage), **fields)


def _dialect(usage: Any) -> str | None:
    """LiteLLM gives nearly all usage one shape, but passes that of the Responses API on."""
    return "litellm" if _member(usage, "prompt_tokens") is not None else None


def _labels(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    metadata = (kwargs.get("litellm_params") or {}).get("metadata") or {}
    labels = metadata.get("kilotoken")
    return dict(labels) if isinstance(labels, Mapping) else {}


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
