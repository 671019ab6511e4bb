"""Google Calendar's tool: what is in the diary.

https://developers.google.com/workspace/calendar/api/v3/reference/events/list
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from urllib.parse import quote

from clawhaven.ports.integration import Tool
from clawhaven.providers.integrations.asking import Ask, line_of, plain, refuse, shorten

MOST_EVENTS: Final = 50
MOST_GUESTS: Final = 10
LONGEST_NOTE: Final = 500

EVENTS = Tool(
    "calendar_events",
    "Look into the owner's Google Calendar",
    "List events of the owner's Google Calendar (read-only) in the order they begin, repeated ones one by one: when,"
    " what, where, with whom. Without `from` it begins now, without `to` it shows seven days.",
    {
        "type": "object",
        "properties": {
            "from": {
                "type": "string",
                "maxLength": 40,
                "description": "First day or moment: 2026-11-22 or 2026-11-22T09:00:00+01:00.",
            },
            "to": {"type": "string", "maxLength": 40, "description": "Last day (it counts) or moment."},
            "query": {"type": "string", "maxLength": 200, "description": "Words to look for in the events."},
            "calendar": {
                "type": "string",
                "maxLength": 200,
                "description": "A calendar's id, usually a mail address. Default: the owner's main calendar.",
            },
            "max_results": {"type": "integer", "minimum": 1, "maximum": MOST_EVENTS, "description": "Default 20."},
        },
        "additionalProperties": False,
    },
)


def list_events(ask: Ask, given: Mapping[str, Any], now: datetime) -> str:
    """`events.list`, single events by their beginning. Raises ProviderError."""
    begin = _moment(given["from"], "from") if "from" in given else now
    end = _moment(given["to"], "to", is_end=True) if "to" in given else begin + timedelta(days=7)
    if end <= begin:
        raise refuse("`to` is not after `from`.")
    query: dict[str, Any] = {
        "timeMin": begin.isoformat(timespec="seconds"),
        "timeMax": end.isoformat(timespec="seconds"),
        "singleEvents": "true",
        "orderBy": "startTime",
        "maxResults": given.get("max_results", 20),
    }
    if "query" in given:
        query["q"] = given["query"]
    calendar = quote(given.get("calendar", "primary"), safe="")
    found = ask(f"/calendar/v3/calendars/{calendar}/events", query)
    listed = found.get("items")
    events = [one for one in listed if isinstance(one, dict)] if isinstance(listed, list) else []
    head = f"Calendar: {line_of(found.get('summary'), 100)} (time zone {line_of(found.get('timeZone'), 60)})"
    if not events:
        return f"{head}\n\nNo event from {query['timeMin']} to {query['timeMax']}."
    more = "\n\nThere are more; ask for a shorter time." if found.get("nextPageToken") else ""
    return head + "\n\n" + "\n\n".join(_event(one) for one in events[:MOST_EVENTS]) + more


def _moment(text: str, name: str, *, is_end: bool = False) -> datetime:
    try:
        if len(text) == len("2026-11-22"):
            return datetime.combine(date.fromisoformat(text) + timedelta(days=int(is_end)), time(), UTC)
        found = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise refuse(f"{name} is a day such as 2026-11-22, or a moment such as 2026-11-22T09:00:00+01:00.") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _event(found: Mapping[str, Any]) -> str:
    lines = [f"{_when(found.get('start'))} to {_when(found.get('end'))}: {line_of(found.get('summary'), 200)}"]
    if found.get("location"):
        lines.append(f"Where: {line_of(found['location'], 200)}")
    guests = found.get("attendees")
    if isinstance(guests, list) and guests:
        named = [_guest(one) for one in guests[:MOST_GUESTS] if isinstance(one, dict) and not one.get("self")]
        rest = f" and {len(guests) - MOST_GUESTS} more" if len(guests) > MOST_GUESTS else ""
        if named:
            lines.append(f"With: {', '.join(named)}{rest}")
    if found.get("description"):
        lines.append(f"Notes: {shorten(line_of(plain(str(found['description'])), LONGEST_NOTE), LONGEST_NOTE)}")
    return "\n".join(lines)


def _when(found: Any) -> str:
    if not isinstance(found, dict):
        return "?"
    return line_of(found.get("dateTime") or found.get("date") or "?", 40)


def _guest(found: Mapping[str, Any]) -> str:
    answer = {"accepted": "accepted", "declined": "declined", "tentative": "maybe"}.get(
        str(found.get("responseStatus")), "no answer"
    )
    return f"{line_of(found.get('displayName') or found.get('email'), 80)} ({answer})"
