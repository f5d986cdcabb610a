"""URLs of servers: what people write, as the drivers take it, or one sentence on why not."""

from urllib.parse import parse_qsl, quote, urlencode

from internals.database.engines import prepare_threshold

_POSTGRES = ("postgresql", "postgres", "postgresql+psycopg")
#: Schemes of Redis, and the driver's word for each.
_REDIS = {"redis": "redis", "rediss": "rediss", "valkey": "redis", "valkeys": "rediss"}


def psycopg_url(url: str) -> str:
    """Return a Postgres URL as SQLAlchemy takes it; raises `ValueError` for any other.

    Several hosts, of which the first that answers is used, become several ``host=`` of the query.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _POSTGRES:
        raise ValueError("give a Postgres URL: postgresql://user:password@host:port/database")
    address, slash, path = rest.partition("/")
    if "?" in address:
        address, _, question = address.partition("?")
        slash, path = "", f"?{question}"
    user, at, hosts = address.rpartition("@")
    several = hosts.split(",")
    for host in several:
        _check_port(host)
    threshold = dict(parse_qsl(path.partition("?")[2], keep_blank_values=True)).get(
        "prepare_threshold"
    )
    if threshold is not None:
        prepare_threshold(threshold)
    if len(several) == 1:
        return f"postgresql+psycopg://{rest}"
    # A host without a port has the usual one; SQLAlchemy takes a port for all or for none.
    named = [host if _port(host) else f"{host}:5432" for host in several]
    query = urlencode([("host", host) for host in named], quote_via=quote, safe=":[]")
    mark = "&" if "?" in path else "?"
    return f"postgresql+psycopg://{user}{at}{slash or '/'}{path}{mark}{query}"


def redis_url(url: str) -> str:
    """Return a URL of Redis or Valkey as the client takes it; raises `ValueError` for any other."""
    scheme, separator, rest = url.partition("://")
    if "sentinel" in scheme or "cluster" in scheme:
        raise ValueError(
            "Sentinel and Cluster are not supported: give the URL of one server, or of a proxy that "
            "follows the primary; nothing is lost while it is away"
        )
    if separator and scheme == "unix":
        return url
    if not separator or scheme not in _REDIS:
        raise ValueError("give a Redis URL: redis://:password@host:port/0")
    hosts = rest.partition("/")[0].rpartition("@")[2]
    if "," in hosts:
        raise ValueError(
            "several hosts are not supported for Redis (Cluster, Sentinel): give the URL of one server"
        )
    _check_port(hosts)
    return f"{_REDIS[scheme]}://{rest}"


def _port(host: str) -> str:
    """The port of ``host:port``; an IPv6 address is in brackets."""
    return host.rpartition("]")[2].partition(":")[2]


def _check_port(host: str) -> None:
    port = _port(host.partition("?")[0])
    if port and not (port.isdecimal() and 1 <= int(port) <= 65535):
        raise ValueError("the port of the URL must be a number from 1 to 65535")
