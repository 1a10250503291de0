"""Read a JSON document strictly, knowing at each value where in the document it stands."""

import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal

PRICE_DECIMALS_MAX = 12
_PRICE = re.compile(r"[0-9]{1,12}(\.[0-9]+)?")
_SIGNED_PRICE = re.compile(r"-?" + _PRICE.pattern)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_ZONE = r"(Z|[+-][0-9]{2}:[0-9]{2})"
_INSTANT = re.compile(_DAY.pattern + r"T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?" + _ZONE)


class TariffInvalid(ValueError):
    """A tariff document is refused: the JSON pointer to the field, and what to do about it."""

    def __init__(self, pointer: str, detail: str) -> None:
        super().__init__(f"{pointer or 'the document'}: {detail}")
        self.pointer = pointer
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a document, with the JSON pointer (RFC 6901) to it."""

    value: object
    pointer: str = ""

    def refuse(self, must: str, instead: str) -> TariffInvalid:
        """Return the error to raise: what is wanted, what stands there, what to do."""
        return TariffInvalid(self.pointer, f"must be {must}, not {_shown(self.value)}; {instead}")

    def members(
        self, required: AbstractSet[str], optional: AbstractSet[str] = frozenset()
    ) -> dict[str, "Field"]:
        """Return the fields of an object that has all the required ones and no unknown one."""
        fields = self.mapping()
        allowed = ", ".join(sorted(required | optional))
        for name in fields:
            if name not in required | optional:
                detail = f"is no field known here; remove it, or use one of: {allowed}"
                raise TariffInvalid(fields[name].pointer, detail)
        for name in sorted(required - fields.keys()):
            raise TariffInvalid(f"{self.pointer}/{name}", f"is missing; the fields are: {allowed}")
        return fields

    def mapping(self) -> dict[str, "Field"]:
        """Return the fields of an object, whatever their names."""
        if not isinstance(self.value, Mapping):
            raise self.refuse("an object", "write it in braces")
        for name in self.value:
            if not isinstance(name, str):
                raise self.refuse("an object with text for names", f"quote {_shown(name)}")
        return {name: self._at(name, value) for name, value in self.value.items()}

    def items(self, *, most: int) -> list["Field"]:
        """Return the values of a list that has one to `most` of them."""
        if not isinstance(self.value, list | tuple):
            raise self.refuse("a list", "write it in square brackets")
        if not 1 <= len(self.value) <= most:
            detail = f"must have 1 to {most} entries, not {len(self.value)}; "
            raise TariffInvalid(self.pointer, detail + "leave an optional field out instead")
        return [self._at(str(index), value) for index, value in enumerate(self.value)]

    def texts(self, pattern: re.Pattern[str], must: str, *, most: int) -> tuple[str, ...]:
        """Return a list of different texts."""
        seen: list[str] = []
        for item in self.items(most=most):
            text = item.text(pattern, must)
            if text in seen:
                raise TariffInvalid(item.pointer, f"repeats {text!r}; name it once")
            seen.append(text)
        return tuple(seen)

    def text(self, pattern: re.Pattern[str], must: str) -> str:
        """Return a text that matches the pattern, which `must` says in words."""
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            raise self.refuse(must, "correct it")
        return self.value

    def whole(self, lowest: int, highest: int) -> int:
        """Return a whole number within bounds. True is an int to Python, and refused here."""
        if type(self.value) is not int or not lowest <= self.value <= highest:
            must = f"a whole number from {lowest} to {highest}"
            raise self.refuse(must, "write digits, without quotes, point or exponent")
        return self.value

    def price(self, *, signed: bool = False) -> Decimal:
        """Return a price: zero or more unless signed, finite, exact, at most 12 decimals."""
        least = "" if signed else "zero or more, "
        must = f"a decimal in quotes, {least}at most {PRICE_DECIMALS_MAX} decimals"
        pattern = _SIGNED_PRICE if signed else _PRICE
        if not isinstance(self.value, str) or not pattern.fullmatch(self.value):
            raise self.refuse(must, 'write it like "0.40"')
        if len(self.value.partition(".")[2]) > PRICE_DECIMALS_MAX:
            raise self.refuse(must, "raise `per` and move the point")
        return Decimal(self.value)

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.refuse("true or false", "write it without quotes")
        return self.value

    def instant(self) -> datetime:
        """Return an instant on a quarter-hour, in UTC: readings are no finer."""
        instant = self.moment()
        if instant.minute % 15 or instant.second or instant.microsecond:
            raise self.refuse("an instant on a quarter-hour", "readings are no finer")
        return instant

    def moment(self) -> datetime:
        """Return an instant in UTC, to the microsecond."""
        must = "an instant with its offset, in quotes"
        if not isinstance(self.value, str) or not _INSTANT.fullmatch(self.value):
            raise self.refuse(must, 'write it like "2026-10-01T00:00:00+08:00"')
        try:
            return datetime.fromisoformat(self.value).astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.refuse("an instant that exists", "check the date and the time") from None

    def day(self) -> date:
        """Return a calendar day."""
        try:
            return date.fromisoformat(self.text(_DAY, "a date in quotes"))
        except TariffInvalid:
            raise self.refuse("a date in quotes", 'write it like "2026-10-01"') from None
        except ValueError:
            raise self.refuse("a day that exists", "check the month and the day") from None

    def _at(self, name: str, value: object) -> "Field":
        escaped = name.replace("~", "~0").replace("/", "~1")
        return Field(value, f"{self.pointer}/{escaped}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
