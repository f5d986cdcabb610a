"""A context whose handlers hang, for real worker processes."""

import os
import socket
import threading
import time
from contextlib import suppress

from pydantic import BaseModel

from boundary import Runtime
from internals import Context, Work
from saga import Command, Retry, Saga, Step

#: Where the table of this test is.
SCHEMA = os.environ.get("SAGA_SCHEMA", "public")


class Tunnel(BaseModel):
    number: int
    way: str = ""


class Dig(Command, kind="moles.dig"):
    number: int
    way: str


def _listen() -> None:
    """Wait for an answer that never comes."""
    here, there = socket.socketpair()
    here.recv(1)
    there.close()


def _spin() -> None:
    while True:
        pass


def _sleep() -> None:
    while True:
        time.sleep(0.01)


def _lock() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


def _swallow() -> None:
    while True:
        with suppress(BaseException):
            _sleep()


WAYS = {"listen": _listen, "spin": _spin, "sleep": _sleep, "lock": _lock, "swallow": _swallow}

moles = Context("moles")


@moles.handles(Dig, retry=Retry(attempts=2))
def dig(command: Dig, work: Work) -> None:
    work.execute(f"INSERT INTO {SCHEMA}.dug VALUES (%(n)s)", {"n": command.number})
    if command.way == "query":
        work.execute("SELECT pg_sleep(600)")
    elif command.way.startswith("slow"):
        time.sleep(float(command.way[4:]))
    elif command.way:
        WAYS[command.way]()


TUNNEL = Saga(
    "tunnel",
    Tunnel,
    steps=(Step("dig", lambda tunnel: Dig(number=tunnel.number, way=tunnel.way)),),
)

if "MOLES" in os.environ:
    runtime = Runtime(sagas=[TUNNEL], contexts=[moles])
    broker = runtime.worker()
