"""Seeing a COMMIT go by, whichever way and in whatever portions a client says it."""

import struct

import pytest

from tests.chaos.frontend import Frontend

TLS = struct.pack("!ii", 8, 80877103)
STARTUP = struct.pack("!ii", 8 + 15, 196608) + b"user\0saga\0data\0"


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


def query(text: bytes) -> bytes:
    return message(b"Q", text + b"\0")


def started() -> Frontend:
    frontend = Frontend()
    assert not frontend.feed(TLS)
    assert not frontend.feed(STARTUP)
    assert not frontend.feed(message(b"p", b"secret\0"))
    return frontend


@pytest.mark.parametrize("text", [b"COMMIT", b"commit;", b" END "])
def test_a_simple_query(text: bytes) -> None:
    assert started().feed(query(b"BEGIN") + query(text))


@pytest.mark.parametrize("text", [b"SELECT 'COMMIT'", b"ROLLBACK", b"COMMIT PREPARED 'x'", b""])
def test_what_is_no_commit(text: bytes) -> None:
    assert not started().feed(query(text))


def test_the_extended_protocol() -> None:
    frontend = started()
    assert not frontend.feed(message(b"P", b"\0SELECT 1\0\0\0") + message(b"P", b"c\0COMMIT\0\0\0"))
    assert not frontend.feed(message(b"B", b"\0\0\0\0\0\0\0\0"))
    assert not frontend.feed(message(b"E", b"\0\0\0\0\0"))
    assert not frontend.feed(message(b"B", b"p\0c\0\0\0\0\0\0\0"))
    assert frontend.feed(message(b"E", b"p\0\0\0\0\0") + message(b"S", b""))


def test_a_commit_in_portions_is_seen_once_it_is_whole() -> None:
    frontend = Frontend()
    said = TLS + STARTUP + query(b"SELECT 1") + query(b"COMMIT")
    assert [frontend.feed(bytes([byte])) for byte in said] == [False] * (len(said) - 1) + [True]
    assert not frontend.feed(query(b"SELECT 2"))
