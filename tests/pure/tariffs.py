"""Small tariffs for tests: plain functions, every price in sight."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from billing.rating.money import total
from billing.rating.period import Period
from billing.rating.rate import PricedTerms, RatedLine, Usage
from billing.rating.tariff import Terms, parse
from tests.pure.tables import at

SEPTEMBER = Period(at("2026-09-01"), at("2026-10-01"))
MTOK = 1_000_000

# DeepSeek's published windows: half price at night, at noon, on weekends and holidays.
BEIJING = {
    "zone": "Asia/Shanghai",
    "default": "off_peak",
    "holidays": ["2026-09-25", "2026-09-26", "2026-09-27"],
    "rules": [
        {
            "bucket": "peak",
            "days": ["mon", "tue", "wed", "thu", "fri"],
            "except": ["holiday"],
            "windows": [["09:00", "12:00"], ["14:00", "18:00"]],
        }
    ],
}


def component(code: str, **fields: Any) -> dict[str, Any]:
    """Return a component of a tariff document; the shape follows from the first field here."""
    shapes = {
        "shape": None,
        "size": "package",
        "price": "flat",
        "steps": "graduated",
        "prices": "time_of_use",
        "tiers": "request_size",
        "series": "price_series",
    }
    shape = next(shape for field, shape in shapes.items() if field in fields)
    defaults = {"models": ["*"], "registers": [code], "shape": shape, "per": MTOK}
    return {"code": code, **defaults, **fields}


def steps(*pairs: tuple[int, str]) -> list[dict[str, Any]]:
    return [{"from": start, "price": price} for start, price in pairs]


def tiers(*pairs: tuple[int, str]) -> list[dict[str, Any]]:
    return [{"above": above, "price": price} for above, price in pairs]


def factor(code: str, kind: str, of: str, group: str = "", **scope: Any) -> dict[str, Any]:
    """Return a modifier of a tariff document."""
    grouped = {"group": group} if group else {}
    return {"code": code, "kind": kind, **scope, **grouped, "factor": of}


def terms(*components: Mapping[str, Any], currency: str = "USD", **fields: Any) -> Terms:
    return parse({"currency": currency, **fields, "components": list(components)})


def whole(of: Terms, *, version: str = "v1", period: Period = SEPTEMBER) -> list[PricedTerms]:
    """Return terms that hold for the whole period."""
    return [PricedTerms(version, period, of)]


def used(
    quantity: int,
    register: str = "input",
    *,
    on: str = "2026-09-24T12:30",
    model: str = "m",
    region: str = "cn",
    service_class: str = "standard",
) -> Usage:
    """Return the usage of one quarter-hour."""
    start: datetime = at(on)
    end = start + timedelta(minutes=15)
    return Usage(start, end, model, register, region, service_class, quantity)


def costs(lines: Iterable[RatedLine]) -> Decimal:
    return total(line.amount for line in lines)


def written(lines: Iterable[RatedLine]) -> str:
    """Write lines as tables do: `10_000_000 @ 2.00, 20_000_000 @ 1.60`."""
    return ", ".join(f"{line.quantity:_} @ {line.unit_price}" for line in lines)
