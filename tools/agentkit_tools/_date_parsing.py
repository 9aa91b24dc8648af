"""Dates, times, time zones and durations as models write them."""

from __future__ import annotations

import calendar
import difflib
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from agentkit.errors import ToolError

__all__ = ["Moment", "find_zone", "parse_moment", "zone_name"]

_MONTHS = {
    name.lower()[:length]: number
    for number, name in enumerate(calendar.month_name)
    if name
    for length in (3, 4, len(name))
}
_FORMS = "write it as 2025-03-31 or 2025-03-31 14:30"
_WORDS = {"today": 0, "tomorrow": 1, "yesterday": -1}
_MONTH = r"(?P<month>[A-Za-z]{3,9})\.?"
_DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
_WRITTEN = tuple(
    re.compile(pattern + r"(?:,?\s*(?:at\s+)?(?P<time>[0-9].*))?", re.IGNORECASE)
    for pattern in (
        rf"(?:[a-z]+,?\s+)?{_DAY}[\s.]*(?:of\s+)?{_MONTH},?\s+(?P<year>[0-9]{{4}})",
        rf"(?:[a-z]+,\s+)?{_MONTH}\s+{_DAY},?\s+(?P<year>[0-9]{{4}})",
        rf"{_DAY}-{_MONTH}-(?P<year>[0-9]{{4}})",
        r"(?P<year>[0-9]{4})[/.](?P<month>[0-9]{1,2})[/.](?P<day>[0-9]{1,2})",
        r"(?P<year>[0-9]{4})-(?P<month>[0-9]{1,2})-(?P<day>[0-9]{1,2})",
    )
)
_SLASHED = re.compile(r"([0-9]{1,2})[/.-]([0-9]{1,2})[/.-]([0-9]{4})(?:,?\s+(.+))?")
_CLOCK = re.compile(
    r"([0-9]{1,2})(?:[:.h]([0-9]{2}))?(?::([0-9]{2})(?:[.,][0-9]+)?)?\s*([ap])?\.?(m)?\.?"
    r"\s*(z|utc|gmt|[+-][0-9]{2}:?[0-9]{2})?",
    re.IGNORECASE,
)
# Names that people use. Abbreviations that several zones share (IST, CST) are left out.
_PLACES = {
    "z": "UTC", "utc": "UTC", "gmt": "UTC", "new york": "America/New_York",
    "eastern": "America/New_York", "central": "America/Chicago",
    "mountain": "America/Denver", "pacific": "America/Los_Angeles", "cet": "Europe/Berlin",
    "cest": "Europe/Berlin", "bst": "Europe/London", "jst": "Asia/Tokyo",
    "pst": "America/Los_Angeles", "pdt": "America/Los_Angeles", "edt": "America/New_York",
    "est": "America/New_York", "san francisco": "America/Los_Angeles",
    "washington": "America/New_York", "boston": "America/New_York", "beijing": "Asia/Shanghai",
    "mumbai": "Asia/Kolkata", "delhi": "Asia/Kolkata", "new delhi": "Asia/Kolkata",
    "munich": "Europe/Berlin", "milan": "Europe/Rome", "barcelona": "Europe/Madrid",
    "geneva": "Europe/Zurich", "st petersburg": "Europe/Moscow", "osaka": "Asia/Tokyo",
}  # fmt: skip
_OFFSET = re.compile(r"(?:utc|gmt)?\s*([+-])([0-9]{1,2})(?::?([0-9]{2}))?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Moment:
    """A date, perhaps with a time, perhaps with a time zone."""

    day: date
    """The calendar day."""
    clock: time | None
    """Time of day, if one was given."""
    zone: tzinfo | None
    """The time zone, if one was given."""

    def at(self, zone: tzinfo | None = None) -> datetime:
        """The date and time; midnight if no time was given.

        Args:
            zone: To be used where none was given.
        """
        return datetime.combine(self.day, self.clock or time(), self.zone or zone)


def parse_moment(text: str, now: datetime) -> Moment:
    """Read a date, a date with a time, or a word such as ``today``.

    Args:
        text: ISO 8601, ``3 March 2025``, ``March 3, 2025 2 pm``, ``now``, ``tomorrow`` and so on.
        now: What ``now`` and ``today`` mean.

    Raises:
        ToolError: It is none of these, or may be two dates at once.
    """
    words = " ".join(text.split())
    lower = words.lower()
    if lower == "now":
        return Moment(now.date(), now.time().replace(microsecond=0), now.tzinfo)
    first, _, rest = lower.partition(" ")
    if first in _WORDS:
        day = now.date() + timedelta(days=_WORDS[first])
        clock, zone = _parse_clock(rest.removeprefix("at "), text) if rest else (None, None)
        return Moment(day, clock, zone or now.tzinfo)
    iso = _parse_iso(words)
    if iso is not None:
        return iso
    for form in _WRITTEN:
        match = form.fullmatch(words)
        if match is not None and (month := _month(match["month"])):
            day = _day(int(match["year"]), month, int(match["day"]), text)
            clock, zone = _parse_clock(match["time"], text) if match["time"] else (None, None)
            return Moment(day, clock, zone)
    if match := _SLASHED.fullmatch(words):
        return _parse_slashed(match, text)
    raise ToolError(f"{text[:80]!r} is not a date that can be read; {_FORMS}")


def _parse_iso(words: str) -> Moment | None:
    # "20250331" and week dates are ISO as well, but a bare number is more likely a mistake.
    if not re.match(r"[0-9]{4}-", words):
        return None
    text = re.sub(r"\s+(?=[Zz+-])|\s+(?=UTC$)", "", words)
    text = re.sub(r"(?i)(z|utc)$", "+00:00", text)
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return None
    clock = value.time() if re.search(r"[T ]", text) else None
    return Moment(value.date(), clock, value.tzinfo)


def _parse_slashed(match: re.Match[str], text: str) -> Moment:
    first, second, year = (int(part) for part in match.groups()[:3])
    if first <= 12 and second <= 12 and first != second:
        raise ToolError(
            f"{text[:80]!r} may be {calendar.month_name[first]} {second} or {first} "
            f"{calendar.month_name[second]}; write {year}-{first:02}-{second:02} or "
            f"{year}-{second:02}-{first:02}"
        )
    month, number = (first, second) if first <= 12 else (second, first)
    clock, zone = _parse_clock(match[4], text) if match[4] else (None, None)
    return Moment(_day(year, month, number, text), clock, zone)


def _month(text: str) -> int | None:
    return int(text) if text.isdigit() else _MONTHS.get(text.lower())


def _day(year: int, month: int, day: int, text: str) -> date:
    try:
        return date(year, month, day)
    except ValueError:
        if 1 <= month <= 12 and 1 <= year <= 9999:
            last = calendar.monthrange(year, month)[1]
            why = f"{calendar.month_name[month]} {year} has {last} days"
        else:
            why = "months go from 1 to 12, years from 1 to 9999"
        raise ToolError(f"{text[:80]!r} is not a date: {why}") from None


def _parse_clock(words: str, text: str) -> tuple[time, tzinfo | None]:
    match = _CLOCK.fullmatch(words.strip())
    if match is None or not (match[2] or match[4]):
        raise ToolError(f"the time in {text[:80]!r} cannot be read; {_FORMS}")
    hour, minute, second = int(match[1]), int(match[2] or 0), int(match[3] or 0)
    if half := (match[4] or "").lower():
        if not 1 <= hour <= 12:
            raise ToolError(f"{text[:80]!r}: {hour} is no hour before am or pm; {_FORMS}")
        hour = hour % 12 + (12 if half == "p" else 0)
    try:
        return time(hour, minute, second), find_zone(match[6]) if match[6] else None
    except ValueError:
        raise ToolError(
            f"{text[:80]!r} is not a time: hours go from 0 to 23, minutes and seconds to 59"
        ) from None


def find_zone(name: str) -> tzinfo:
    """The time zone of a name: ``Europe/Paris``, ``Paris``, ``UTC``, ``+02:00``.

    Raises:
        ToolError: There is none; the message names similar ones.
    """
    words = " ".join(name.strip().replace("_", " ").split())
    lower = words.lower()
    if match := _OFFSET.fullmatch(lower):
        offset = timedelta(hours=int(match[2]), minutes=int(match[3] or 0))
        if offset < timedelta(hours=24) and int(match[3] or 0) < 60:
            return timezone(-offset if match[1] == "-" else offset)
    key = _PLACES.get(lower.replace(".", "").removesuffix(" time")) or _zones().get(lower)
    if key is None:
        close = difflib.get_close_matches(lower, _zones(), n=3, cutoff=0.7)
        names = ", ".join(dict.fromkeys(_zones()[one] for one in close)) or "Europe/Paris, UTC"
        raise ToolError(
            f"{name[:60]!r} is not a time zone that is known; pass a name such as {names}, or an "
            "offset such as +02:00"
        )
    return UTC if key == "UTC" else ZoneInfo(key)


@lru_cache
def _zones() -> dict[str, str]:
    """Names in lower case, whole and by their last part (``paris``) where only one ends so."""
    whole = {key for key in available_timezones() if not key.startswith(("posix", "right"))}
    if not whole:
        raise ToolError("this machine has no time zone data; the package tzdata brings it")
    last: dict[str, list[str]] = {}
    for key in sorted(whole):
        area, _, place = key.rpartition("/")
        if area and area not in ("Etc", "SystemV"):
            last.setdefault(place.replace("_", " ").lower(), []).append(key)
    names = {place: keys[0] for place, keys in last.items() if len(keys) == 1}
    return {**names, **{key.replace("_", " ").lower(): key for key in whole}}


def zone_name(zone: tzinfo | None) -> str:
    """``Europe/Paris``, ``UTC`` or ``UTC+02:00``."""
    return getattr(zone, "key", None) or str(zone)
