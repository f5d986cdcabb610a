"""How a run of a handler is looked at and ended from another thread."""

import subprocess
import sys
import threading

import pytest

from internals.hop.interruption import stack_of

#: Garbage whose end needs the interpreter's own lock is there just when frames are asked for.
_PROGRAM = """
import gc, threading
from internals.hop.interruption import stack_of

class Circle:
    def __init__(self):
        self.itself, self.local = self, threading.local()
        self.local.value = 1

waiting = threading.Event()
for beyond in range(2, 12):
    for _ in range(20):
        threading.Thread(target=waiting.wait, daemon=True).start()
    gc.collect()
    gc.set_threshold(100_000)
    for _ in range(50):
        Circle()
    # The collection begins when so many more are made: the frames of the new threads.
    gc.set_threshold(gc.get_count()[0] + beyond, 1000, 1000)
    assert "stack_of" in stack_of(threading.get_ident())
    assert gc.isenabled()
print("looked")
"""


def test_where_a_thread_is_can_be_told_while_there_is_garbage() -> None:
    """Python 3.11 hung for ever in it, and all threads of the process."""
    command = [sys.executable, "-c", _PROGRAM]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail("it hangs")
    assert (said.stdout, said.stderr) == ("looked\n", "")


def test_a_thread_that_is_over_is_nowhere() -> None:
    thread = threading.Thread(target=str)
    thread.start()
    thread.join()
    assert thread.ident is not None
    assert stack_of(thread.ident) == "(unknown)"
