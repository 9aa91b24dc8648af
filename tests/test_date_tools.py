"""Dates and time zones: what is read, what is worked out, and what is asked back."""

from __future__ import annotations

import calendar
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit import Agent, ScriptedModel, ToolCall, ToolError, UserError
from agentkit_tools import date_tools
from agentkit_tools._date_parsing import parse_moment

NOW = datetime(2025, 3, 28, 9, 30, tzinfo=UTC)
TOOLS = {
    tool.definition.name: tool for tool in date_tools(time_zone="Europe/Berlin", clock=lambda: NOW)
}


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("current_time", {}, "Friday, 2025-03-28 10:30 UTC+01:00 (Europe/Berlin)"),
        ("current_time", {"time_zone": "Tokyo"}, "Friday, 2025-03-28 18:30 UTC+09:00 (Asia/Tokyo)"),
        ("current_time", {"time_zone": "utc"}, "Friday, 2025-03-28 09:30 UTC"),
        ("current_time", {"time_zone": "+05:30"}, "Friday, 2025-03-28 15:00 UTC+05:30"),
        ("add_to_date", {"date": "2025-01-31", "months": 1}, "Friday, 2025-02-28"),
        ("add_to_date", {"date": "2024-02-29", "years": 1}, "Friday, 2025-02-28"),
        ("add_to_date", {"date": "today", "weeks": -1, "days": -1}, "Thursday, 2025-03-20"),
        ("add_to_date", {"date": "3 March 2025 14:30", "minutes": 45}, "Monday, 2025-03-03 15:15"),
        # The clocks go forward at 2:00, so that an hour after 1:30 it is 3:30.
        ("add_to_date", {"date": "2025-03-30 01:30", "hours": 1}, "Sunday, 2025-03-30 03:30"),
        (
            "convert_time_zone",
            {"time": "2025-12-24 18:00", "to_zone": "New York", "from_zone": "Berlin"},
            "Wednesday, 2025-12-24 18:00 UTC+01:00 (Europe/Berlin) is "
            "Wednesday, 2025-12-24 12:00 UTC-05:00 (America/New_York)",
        ),
        (
            "convert_time_zone",
            {"time": "3 pm", "to_zone": "Asia/Kolkata", "from_zone": "UTC"},
            "Friday, 2025-03-28 15:00 UTC is Friday, 2025-03-28 20:30 UTC+05:30 (Asia/Kolkata)",
        ),
        (
            "convert_time_zone",
            {"time": "2025-06-01T12:00Z", "to_zone": "Paris", "from_zone": "Tokyo"},
            "Sunday, 2025-06-01 12:00 UTC is Sunday, 2025-06-01 14:00 UTC+02:00 (Europe/Paris)",
        ),
        (
            "date_difference",
            {"start": "2024-02-29", "end": "2025-03-28"},
            {"days": 393, "calendar": "1 year, 28 days"},
        ),
        (
            "date_difference",
            {"start": "3 March 2025", "end": "March 1, 2025"},
            {"days": -2, "calendar": "minus 2 days"},
        ),
        # A day of 23 hours.
        (
            "date_difference",
            {"start": "2025-03-29 12:00", "end": "2025-03-30 12:00"},
            {"hours": 23.0, "minutes": 1380.0, "calendar": "1 day"},
        ),
        (
            "date_info",
            {"date": "31st of December 2024"},
            {
                "date": "2024-12-31",
                "weekday": "Tuesday",
                "iso_week": "2025-W01",
                "day_of_year": 366,
                "days_in_month": 31,
                "leap_year": True,
            },
        ),
    ],
)
def test_answers(name: str, arguments: dict[str, Any], expected: Any) -> None:
    assert TOOLS[name](**arguments) == expected


def test_skipped_and_repeated_times_are_named() -> None:
    convert = TOOLS["convert_time_zone"]
    skipped = convert(time="2025-03-30 02:30", to_zone="UTC")
    assert "this time does not exist: the clocks go forward then, to 03:30" in skipped
    assert skipped.endswith("01:30 UTC")
    repeated = convert(time="2025-10-26 02:30", to_zone="UTC")
    assert "show this time twice; this is the first" in repeated
    assert repeated.endswith("00:30 UTC")
    onto = TOOLS["add_to_date"](date="2025-03-29 02:30", days=1)
    assert onto.startswith("Sunday, 2025-03-30 02:30 [this time does not exist")


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("date_info", {"date": "03/04/2025"}, "write 2025-03-04 or 2025-04-03"),
        ("date_info", {"date": "2025-02-30"}, "February 2025 has 28 days"),
        ("date_info", {"date": "2025-13-01"}, "months go from 1 to 12"),
        ("date_info", {"date": "some day"}, "write it as 2025-03-31"),
        ("date_info", {"date": "2025-03-31 25:00"}, "hours go from 0 to 23"),
        ("date_info", {"date": "1 May 2025 13 pm"}, "no hour before am or pm"),
        ("current_time", {"time_zone": "Pariss"}, "Europe/Paris"),
        ("current_time", {"time_zone": "IST"}, "not a time zone"),
        ("current_time", {"time_zone": "../../etc/passwd"}, "not a time zone"),
        ("convert_time_zone", {"time": "2025-03-31", "to_zone": "UTC"}, "has no time of day"),
        ("convert_time_zone", {"time": "0001-01-01 00:00", "to_zone": "Honolulu"}, "years 1 to"),
        ("add_to_date", {"date": "today", "days": 10**9}, "days must be from"),
        ("add_to_date", {"date": "9999-12-31", "days": 1}, "outside of the years"),
        ("add_to_date", {"date": "today", "hours": 1e300}, "outside of the years"),
        ("date_difference", {"start": "0001-01-01", "end": "today"}, "within the years"),
    ],
)
def test_mistakes_are_explained(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ToolError, match=re.escape(message)):
        TOOLS[name](**arguments)


def test_unknown_default_zone_is_the_programs_mistake() -> None:
    with pytest.raises(UserError, match="Mars"):
        date_tools(time_zone="Mars/Olympus")


def test_system_clock() -> None:
    told = date_tools()[0]()
    day = told.split()[1]
    assert day in {str((datetime.now(UTC) - timedelta(minutes=m)).date()) for m in (0, 1)}
    assert told.endswith(" UTC")


DAYS = st.dates(date(1, 1, 2), date(9999, 12, 30))
FORMS = [
    lambda d: d.isoformat(),
    lambda d: f"{d.year:04}/{d.month}/{d.day}",
    lambda d: f"{d.day} {calendar.month_name[d.month]} {d.year:04}",
    lambda d: f"{calendar.month_abbr[d.month]} {d.day}, {d.year:04}",
    lambda d: f"{calendar.month_name[d.month].upper()} {d.day} {d.year:04}",
    lambda d: f"{d:%A}, {d.day}. {calendar.month_abbr[d.month]}. {d.year:04}",
    lambda d: f"{d.day:02}-{calendar.month_abbr[d.month]}-{d.year:04}",
]


@given(DAYS, st.sampled_from(FORMS), st.times(), st.sampled_from(["", " {:%H:%M}", " {:%I:%M %p}"]))
def test_reads_what_is_written(day: date, form: Any, clock: Any, clock_form: str) -> None:
    moment = parse_moment(form(day) + clock_form.format(clock), NOW)
    assert moment.day == day
    assert moment.clock == (clock.replace(second=0, microsecond=0) if clock_form else None)


@given(st.one_of(st.text(max_size=40), st.text("0123456789-/.: apmJanzT+", max_size=30)))
@settings(max_examples=500)
def test_any_text_is_a_moment_or_explained(text: str) -> None:
    try:
        moment = parse_moment(text, NOW)
    except ToolError:
        return
    assert date.min <= moment.day <= date.max


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(0, 40_000))
def test_difference_and_sum_agree(start: datetime, days: int) -> None:
    """What a difference says in calendar terms leads from the start to the end."""
    begin, end = start.date(), start.date() + timedelta(days=days)
    told = TOOLS["date_difference"](start=str(begin), end=str(end))
    assert told["days"] == days
    parts = re.findall(r"(\d+) (year|month|day)", told["calendar"])
    total = {f"{unit}s": int(count) for count, unit in parts}
    assert TOOLS["add_to_date"](date=str(begin), **total) == f"{end:%A}, {end}"


def test_in_an_agent() -> None:
    model = ScriptedModel(
        [ToolCall(name="date_info", arguments={"date": "today"}), "It is a Friday."]
    )
    result = Agent(model, TOOLS.values()).run_sync("Which day is it?")
    assert '"weekday": "Friday"' in result.calls[0].observation
