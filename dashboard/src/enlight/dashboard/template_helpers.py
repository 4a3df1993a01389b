"""What all templates can use: addresses of files, the session, and numbers, sizes and times in words."""

from __future__ import annotations

from datetime import UTC, datetime

from flask import Flask
from jinja2 import PackageLoader, StrictUndefined

from enlight.dashboard.charts import seconds
from enlight.dashboard.security.sessions import current_session
from enlight.dashboard.static_files import asset

_UNITS = ("B", "kB", "MB", "GB", "TB")


def add_helpers(app: Flask) -> None:
    """Gives them to the templates; to be called before the first one is made."""
    # A name that is not there is a mistake of ours, not an empty place on the page.
    app.jinja_options = {"trim_blocks": True, "lstrip_blocks": True, "undefined": StrictUndefined}
    app.jinja_env.loader = PackageLoader("enlight.dashboard")
    app.jinja_env.globals.update(asset=asset)
    app.jinja_env.filters.update(size=size, duration=duration, seconds=seconds, moment=moment, ago=ago, ahead=ahead)
    app.context_processor(lambda: {"session": current_session()})


def size(count_bytes: float | None) -> str:
    """``1.4 GB``; a dash for None."""
    if count_bytes is None:
        return "–"
    value = float(count_bytes)
    for unit in _UNITS:
        if value < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit == "B" or value >= 99.5 else f"{value:.3g} {unit}"


def duration(length_s: float | None) -> str:
    """``45 s``, ``3 min 20 s``, ``2 h 5 min``; a dash for None."""
    if length_s is None:
        return "–"
    whole_s = round(length_s)
    hours, rest_s = divmod(whole_s, 3600)
    minutes, seconds = divmod(rest_s, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def moment(text: str | None) -> datetime | None:
    """A time of the API's (ISO 8601)."""
    return datetime.fromisoformat(text) if text else None


def ago(text: str | None) -> str:
    """``just now``, ``5 min ago``, ``2 days ago``; a dash for None."""
    when = moment(text)
    if when is None:
        return "–"
    passed_s = (datetime.now(UTC) - when.astimezone(UTC)).total_seconds()
    for length_s, name in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if passed_s >= length_s:
            count = int(passed_s // length_s)
            return f"{count} {name}{'s' if count > 1 else ''} ago"
    return "just now"


def ahead(text: str | None) -> str:
    """``in 5 min``, ``now``; a dash for None."""
    when = moment(text)
    if when is None:
        return "–"
    left_s = (when.astimezone(UTC) - datetime.now(UTC)).total_seconds()
    return f"in {duration(left_s)}" if left_s > 0 else "now"
