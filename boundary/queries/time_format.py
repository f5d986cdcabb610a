"""Time format: times and lengths of time as people say them, everywhere alike."""

from datetime import datetime, timedelta


def clock(moment: datetime, now: datetime) -> str:
    """Return a time of day in the host's zone, with the date if it is not today's."""
    local, today = moment.astimezone(), now.astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%Y-%m-%d %H:%M:%S")


def duration(length: timedelta) -> str:
    """Return a length of time with the digits that matter: ``12 ms``, ``3 min 20 s``."""
    seconds = max(length.total_seconds(), 0.0)
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
