"""The trace of a line: which version, component, step, bucket and rule made it, in JSON values."""

from billing.rating.allowance import Allowance
from billing.rating.calendar import TouCalendar
from billing.rating.line import UNPRICED, LineKey
from billing.rating.modifier import Modifier
from billing.rating.scope import ANY, matching
from billing.rating.shape import Portion
from billing.rating.tariff import RateComponent


def of_allowance(allowance: Allowance, key: LineKey) -> dict[str, object]:
    """Explain a line of free tokens."""
    matched = {"models": matching(allowance.models, key.model), "register": key.register}
    trace: dict[str, object] = {
        "shape": "allowance",
        "tokens": allowance.tokens,
        "matched": matched,
    }
    for name in ("each_model", "once", "prorate"):
        if getattr(allowance, name):
            trace[name] = True
    if allowance.expires is not None:
        trace["expires"] = allowance.expires.isoformat()
    return trace


def of_component(
    component: RateComponent,
    place: int,
    key: LineKey,
    portion: Portion,
    modifiers: tuple[Modifier, ...],
    calendar: TouCalendar | None,
) -> dict[str, object]:
    """Explain a line that a component priced. The portion has the price before modifiers."""
    trace = {
        "shape": component.shape.NAME,
        "matched": _matched(component, key, place),
        **component.shape.explain(portion),
    }
    if key.bucket and calendar is not None and set(key.bucket.split("+")) <= calendar.buckets:
        trace["bucket"] = calendar.explain(key.bucket)
    if component.negotiated:
        trace["negotiated"] = True
    if modifiers:
        trace["base_price"] = f"{portion.unit_price:f}"
        trace["modifiers"] = [modifier.explain() for modifier in modifiers]
    return trace


def of_nothing() -> dict[str, object]:
    """Explain a line that no component prices."""
    return {"shape": UNPRICED, "matched": None}


def _matched(component: RateComponent, key: LineKey, place: int) -> dict[str, object]:
    matched: dict[str, object] = {
        "component": place + 1,  # the first of the document's components that matches
        "models": matching(component.models, key.model),
        "register": key.register,
        "regions": _listed(component.regions),
        "service_classes": _listed(component.service_classes),
    }
    return matched | ({"when": component.when.as_document()} if component.when != ANY else {})


def _listed(names: tuple[str, ...] | None) -> list[str] | None:
    return None if names is None else list(names)
