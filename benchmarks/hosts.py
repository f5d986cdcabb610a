"""Hosts: the same sagas with worker processes on 1, 2 and 4 hosts beside the servers' host.

    python -m benchmarks.hosts [--sagas N] [--idle N] [--repeats N] [--json]

A host is a Linux network namespace: one process of eight threads, which reaches Postgres and Redis
through a virtual cable and a bridge, and nobody else.  All of them share this machine's cores, so
it shows what it costs to be elsewhere, and not what more machines would do.  Needs root and `ip`,
and servers of its own, since configured ones may not be within a namespace's reach.

The figures go to `benchmarks/results/hosts.md`.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median

import redis
from sqlalchemy import make_url

from benchmarks.measuring import Size, busy_figures, percentile
from benchmarks.peers.saga_peer import SagaPeer
from benchmarks.servers import own_schema
from boundary import Settings
from boundary.embedded import EmbeddedServers
from boundary.embedded.host import write_private
from boundary.embedded.postgres import Postgres
from boundary.embedded.process import Record

RESULTS = Path(__file__).parent / "results" / "hosts.md"

COUNTS = (1, 2, 4)

#: A network of documentation's addresses (RFC 5737), which nobody has: the servers' host is the
#: first in it.
_NETWORK = "198.51.100."
_GATEWAY = f"{_NETWORK}1"
_BRIDGE = "saga-bench"

_FIGURES = ("ok_per_second", "ok_p50_ms", "ok_p99_ms", "worker_cpu_ms", "postgres_cpu_ms")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark, write its table and print it."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the hosts are taken down then too
    here = SagaPeer(1)
    with ExitStack() as stack:
        names = stack.enter_context(_hosts(max(COUNTS)))
        address = stack.enter_context(_reachable_servers())
        peers = {"1 process beside the servers": (here, "127.0.0.1")} | {
            f"{count} host(s)": (SagaPeer(1, hosts=tuple(names[:count])), _GATEWAY)
            for count in COUNTS
        }
        runs: dict[str, list[dict[str, float]]] = {where: [] for where in peers}
        for _ in range(options.repeats):
            for where, (peer, gateway) in peers.items():
                with own_schema(_at(address, gateway)) as settings:
                    runs[where].append(_measure(peer, settings, options))
    found = {
        where: {name: round(median(run[name] for run in of), 3) for name in _FIGURES}
        for where, of in runs.items()
    }
    RESULTS.write_text(_table(options, found))
    sys.stdout.write(json.dumps(found, indent=2) + "\n" if options.json else RESULTS.read_text())


def _measure(peer: SagaPeer, settings: Settings, options: argparse.Namespace) -> dict[str, float]:
    size = Size(busy=options.sagas, idle=options.idle, repeats=1)
    found = busy_figures(peer, settings, size)
    with peer.run(settings) as running:
        running.idle(options.idle // 10 or 1, False)
        _, seconds = running.idle(options.idle, False)
    found["ok_p50_ms"] = percentile(seconds, 0.50) * 1000
    found["ok_p99_ms"] = percentile(seconds, 0.99) * 1000
    return found


class _OpenPostgres(Postgres):
    """One that listens on the bridge too."""

    def configure(self, record: Record) -> list[str]:
        rules = self.directory / "hosts.conf"
        lines = [f"host all all {net} scram-sha-256\n" for net in ("127.0.0.1/32", _cidr("0"))]
        write_private(rules, "".join(lines), self.account)
        ours = {"listen_addresses": f"127.0.0.1,{_GATEWAY}", "hba_file": str(rules)}
        return [*super().configure(record), *(f"--{name}={value}" for name, value in ours.items())]


class _OpenServers(EmbeddedServers):
    """Servers within reach of the hosts."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._postgres = _OpenPostgres(self.directory, self._account)


@contextmanager
def _reachable_servers() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="saga-hosts-") as folder:
        Path(folder).chmod(0o711)  # root's servers run as somebody else
        with _OpenServers(Path(folder) / "servers") as servers:
            with redis.Redis.from_url(servers.redis_url) as client:
                client.config_set("bind", f"127.0.0.1 {_GATEWAY}")
            yield Settings(database_url=servers.database_url, redis_url=servers.redis_url)


def _at(settings: Settings, address: str) -> Settings:
    """The same servers, by another address."""
    urls = (settings.database_url, settings.redis_url)
    database_url, redis_url = (
        make_url(url.get_secret_value()).set(host=address).render_as_string(hide_password=False)
        for url in urls
        if url is not None
    )
    return Settings(database_url=database_url, redis_url=redis_url)


@contextmanager
def _hosts(count: int) -> Iterator[list[str]]:
    """Make so many namespaces, each with a cable to one bridge; returns their names."""
    names = [f"{_BRIDGE}-{number}" for number in range(1, count + 1)]
    with ExitStack() as undo:
        _ip("link", "add", _BRIDGE, "type", "bridge")
        undo.callback(_ip, "link", "del", _BRIDGE)
        _ip("addr", "add", _cidr("1"), "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        for number, name in enumerate(names, 2):
            _ip("netns", "add", name)
            undo.callback(_ip, "netns", "del", name)  # the cable goes with it
            plug = f"{_BRIDGE[:8]}-p{number}"
            _ip("link", "add", plug, "type", "veth", "peer", "name", "eth0", "netns", name)
            _ip("link", "set", plug, "master", _BRIDGE, "up")
            for command in (("addr", "add", _cidr(str(number)), "dev", "eth0"),
                            ("link", "set", "eth0", "up"), ("link", "set", "lo", "up")):  # fmt: skip
                _ip("-n", name, *command)
        yield names


def _cidr(last: str) -> str:
    return f"{_NETWORK}{last}/24"


def _ip(*arguments: str) -> None:
    """Run `ip`; exits with what it says if it cannot."""
    try:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)  # noqa: S603, S607
    except FileNotFoundError:
        raise SystemExit("hosts need the command `ip` (iproute2) of Linux") from None
    except subprocess.CalledProcessError as error:
        hint = ""
        if "File exists" in error.stderr:
            name = f"{_BRIDGE}-1"
            hint = (
                f"; a run that was killed left it: `ip netns del {name}`, `ip link del {_BRIDGE}`"
            )
        raise SystemExit(f"ip {' '.join(arguments)}: {error.stderr.strip()}{hint}") from error


def _table(options: argparse.Namespace, found: dict[str, dict[str, float]]) -> str:
    lines = [
        "# Hosts",
        "",
        f"Written by `python -m benchmarks.hosts`: {options.sagas:,} sagas at once and "
        f"{options.idle:,} one by one, medians of {options.repeats} runs in turns. A host is a network "
        "namespace with one process of eight threads; all share one machine's cores.",
        "",
        f"| workers | {' | '.join(name.replace('_', ' ') for name in _FIGURES)} |",
        f"|---|{'---:|' * len(_FIGURES)}",
        *(
            f"| {where} | {' | '.join(str(figures[name]) for name in _FIGURES)} |"
            for where, figures in found.items()
        ),
    ]
    return "\n".join(lines) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.hosts", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--sagas", type=int, default=2000, help="of each busy run")
    parser.add_argument("--idle", type=int, default=200, help="one by one, of each run")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    return parser


if __name__ == "__main__":
    main()
