"""Dates and time zones: what a model cannot know, and what it is bad at working out."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from typing import Any

from agentkit.errors import ToolError, UserError
from agentkit_tools._date_parsing import Moment, find_zone, parse_moment, zone_name
from agentkit_tools.function import FunctionTool

__all__ = ["date_tools"]

_LIMITS = {"years": 9998, "months": 12 * 9998, "weeks": 520_000, "days": 3_660_000}


def date_tools(
    *,
    time_zone: str = "UTC",
    clock: Callable[[], datetime] | None = None,
) -> list[FunctionTool[..., Any]]:
    """Tools for the current time, differences, sums, time zones and weekdays.

    ``current_time``, ``date_difference``, ``add_to_date``, ``convert_time_zone`` and
    ``date_info``. They read ISO 8601, ``3 March 2025``, ``March 3, 2025 2 pm``, ``today`` and
    the like; a date that may be two (``03/04/2025``) is asked back. Time zones have their IANA
    names or those of their cities. Times that a change of the clocks skips or repeats are named.

    Args:
        time_zone: Of times that name none, and of ``now`` and ``today``.
        clock: Gives the current time, with a time zone; the system's if ``None``. A fixed one
            makes runs repeatable.

    Raises:
        UserError: There is no such time zone.
    """
    return _DateTools(time_zone, clock).tools()


class _DateTools:
    def __init__(self, time_zone: str, clock: Callable[[], datetime] | None) -> None:
        try:
            self._zone = find_zone(time_zone)
        except ToolError as error:
            raise UserError(f"date_tools: time_zone: {error}") from None
        self._clock = clock

    def tools(self) -> list[FunctionTool[..., Any]]:
        return [
            FunctionTool(function)
            for function in (
                self.current_time,
                self.date_difference,
                self.add_to_date,
                self.convert_time_zone,
                self.date_info,
            )
        ]

    def _now(self, zone: tzinfo | None = None) -> datetime:
        now = self._clock() if self._clock else datetime.now(UTC)
        if now.tzinfo is None:
            now = now.replace(tzinfo=self._zone)
        return now.astimezone(zone or self._zone)

    def _read(self, text: str) -> Moment:
        return parse_moment(text, self._now())

    def current_time(self, time_zone: str | None = None) -> str:
        """Get the current date, time and weekday.

        Args:
            time_zone: Where, such as "Europe/Paris"
        """
        return _describe(self._now(find_zone(time_zone) if time_zone else None))

    def date_difference(self, start: str, end: str) -> dict[str, Any]:
        """Get the time between two dates or times.

        Args:
            start: The earlier one, such as "2025-03-31" or "2025-03-31 14:30"
            end: The later one
        """
        first, last = self._read(start), self._read(end)
        begin, finish = first.at(self._zone), last.at(self._zone)
        try:
            # In real time, so that hours which a change of the clocks takes or gives count.
            seconds = int((finish.astimezone(UTC) - begin.astimezone(UTC)).total_seconds())
        except OverflowError:
            raise ToolError("the dates must be within the years 1 to 9999") from None
        sign = -1 if seconds < 0 else 1
        earlier, later = (begin, finish) if sign == 1 else (finish, begin)
        result: dict[str, Any] = {}
        if first.clock is None and last.clock is None:
            result["days"] = (last.day - first.day).days
        else:
            result["hours"] = round(seconds / 3600, 4)
            result["minutes"] = round(seconds / 60, 2)
        result["calendar"] = ("minus " if sign < 0 else "") + _calendar_parts(earlier, later)
        return result

    def add_to_date(
        self,
        date: str,
        years: int = 0,
        months: int = 0,
        weeks: int = 0,
        days: int = 0,
        hours: float = 0,
        minutes: float = 0,
    ) -> str:
        """Get the date some time after a date, or before it with negative numbers.

        Args:
            date: Where to begin, such as "2025-03-31", "2025-03-31 14:30" or "today"
            years: Years to add
            months: Months to add
            weeks: Weeks to add
            days: Days to add
            hours: Hours to add
            minutes: Minutes to add
        """
        for name, value in {"years": years, "months": months, "weeks": weeks, "days": days}.items():
            if abs(value) > _LIMITS[name]:
                raise ToolError(f"{name} must be from -{_LIMITS[name]} to {_LIMITS[name]}")
        moment = self._read(date)
        try:
            start = _add_months(moment.at(self._zone), 12 * years + months)
            result = start + timedelta(days=7 * weeks + days)
            result = _elapse(result, timedelta(hours=hours, minutes=minutes))
        except (OverflowError, ValueError):
            raise ToolError(
                "the result is outside of the years 1 to 9999; add or subtract less"
            ) from None
        if moment.clock is None and not hours and not minutes:
            return _describe_day(result.date())
        return _describe(result, show_zone=moment.zone is not None)

    def convert_time_zone(self, time: str, to_zone: str, from_zone: str | None = None) -> str:
        """Convert a time from one time zone to another.

        Args:
            time: Date and time such as "2025-03-31 14:30", or "now"
            to_zone: The wanted time zone, such as "Asia/Tokyo"
            from_zone: The time zone of the time, such as "Europe/Paris"
        """
        target = find_zone(to_zone)
        now = self._now(find_zone(from_zone) if from_zone else None)
        moment = _read_time(time, now)
        zone = (find_zone(from_zone) if from_zone else None) or moment.zone or self._zone
        if moment.zone is not None and time.strip().lower() != "now":
            zone = moment.zone  # It stands in the text, as in "14:30+02:00".
        source = moment.at(zone) if moment.zone is None else moment.at().replace(tzinfo=zone)
        try:
            return f"{_describe(source)} is {_describe(source.astimezone(target))}"
        except OverflowError:
            raise ToolError("the time is outside of the years 1 to 9999") from None

    def date_info(self, date: str) -> dict[str, Any]:
        """Get a date's weekday, week, day of the year and whether the year is a leap year.

        Args:
            date: Such as "2025-03-31" or "today"
        """
        day = self._read(date).day
        week = day.isocalendar()
        return {
            "date": day.isoformat(),
            "weekday": f"{day:%A}",
            "iso_week": f"{week.year}-W{week.week:02}",
            "day_of_year": day.timetuple().tm_yday,
            "days_in_month": calendar.monthrange(day.year, day.month)[1],
            "leap_year": calendar.isleap(day.year),
        }


def _read_time(text: str, now: datetime) -> Moment:
    """A moment that has a time; a bare time is one of today."""
    try:
        moment = parse_moment(text, now)
    except ToolError:
        if len(text) > 20:
            raise
        try:
            moment = parse_moment(f"today {text}", now)
        except ToolError:
            pass
        else:
            return Moment(moment.day, moment.clock, None)
        raise
    if moment.clock is None:
        raise ToolError(f"{text!r} has no time of day; add it, as in {moment.day} 14:30")
    return moment


def _describe(value: datetime, *, show_zone: bool = True) -> str:
    text = f"{value:%A}, {value.date().isoformat()} {value:%H:%M:%S}".removesuffix(":00")
    if not show_zone:
        return text + _clock_change(value)
    name, offset = zone_name(value.tzinfo), value.isoformat()[-6:]
    zone = "UTC" if name == "UTC" else f"UTC{offset}"
    return (
        text
        + f" {zone}"
        + (f" ({name})" if not name.startswith("UTC") else "")
        + _clock_change(value)
    )


def _describe_day(day: date) -> str:
    return f"{day:%A}, {day.isoformat()}"


def _clock_change(value: datetime) -> str:
    """A remark on a local time that the clocks skip or show twice."""
    if value.tzinfo is None or value.year in (1, 9999):
        return ""
    earlier, later = value.replace(fold=0), value.replace(fold=1)
    if earlier.utcoffset() == later.utcoffset():
        return ""
    back = earlier.astimezone(UTC).astimezone(value.tzinfo)
    if back.replace(tzinfo=None, fold=0) != value.replace(tzinfo=None, fold=0):
        return f" [this time does not exist: the clocks go forward then, to {back:%H:%M}]"
    which = "second" if value.fold else "first"
    return f" [the clocks go back then and show this time twice; this is the {which}]"


def _elapse(value: datetime, duration: timedelta) -> datetime:
    """Add real time: hours across a change of the clocks are hours that pass."""
    if not duration or value.tzinfo is None:
        return value + duration
    return (value.astimezone(UTC) + duration).astimezone(value.tzinfo)


def _add_months(value: datetime, months: int) -> datetime:
    """The same day some months later; the month's last if it has no such day."""
    index = value.year * 12 + value.month - 1 + months
    year, month = divmod(index, 12)
    last = calendar.monthrange(year, month + 1)[1] if 1 <= year <= 9999 else 0
    return value.replace(year=year, month=month + 1, day=min(value.day, max(last, 1)))


def _calendar_parts(start: datetime, end: datetime) -> str:
    """``1 year, 2 months, 3 days``, with hours and minutes if the times differ."""
    first, last = start.replace(tzinfo=None), end.astimezone(start.tzinfo).replace(tzinfo=None)
    months = (last.year - first.year) * 12 + last.month - first.month
    if months > 0 and _add_months(first, months) > last:
        months -= 1
    months = max(0, months)
    rest = max(timedelta(), last - _add_months(first, months))
    counts = {
        "year": months // 12,
        "month": months % 12,
        "day": rest.days,
        "hour": rest.seconds // 3600,
        "minute": rest.seconds % 3600 // 60,
    }
    parts = [f"{count} {unit}{'s' * (count != 1)}" for unit, count in counts.items() if count]
    return ", ".join(parts) or "0 days"
