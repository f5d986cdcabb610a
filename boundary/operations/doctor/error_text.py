"""Error text: what is said of a server that does not answer, without its password."""

import re
from urllib.parse import parse_qs, urlsplit, urlunsplit

#: What psycopg says before it comes to the point.
_PREAMBLE = re.compile(
    r"^(connection failed: )?(connection to server at .*? failed: )?((FATAL|ERROR): +)?"
)


def shown_url(url: str) -> str:
    """Return a server's URL as it may be shown: no password, no query, no driver's name."""
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    # Several hosts stand in the query, as the driver takes them.
    host = host or ",".join(parse_qs(parts.query).get("host", ()))
    name, colon, _ = user.partition(":")
    scheme = parts.scheme.partition("+")[0]
    # Without "//" a socket's path would be taken for the host.
    path = parts.path if parts.netloc or scheme != "unix" else f"//{parts.path}"
    return urlunsplit((scheme, f"{name}{':***' if colon else ''}{at}{host}", path, "", ""))


def database_problem(error: BaseException) -> str:
    """Return the point of a database error, in one line."""
    text = str(getattr(error, "orig", None) or error)
    first = text.strip().partition("\n")[0]
    return _PREAMBLE.sub("", first).rstrip(".") or type(error).__name__


def redis_problem(error: BaseException) -> str:
    """Return the point of a Redis error, in one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.rstrip(".")
