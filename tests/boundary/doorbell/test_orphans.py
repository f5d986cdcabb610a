"""Worker processes whose parent is killed alone end too."""

import os
import signal
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from boundary import Settings


@pytest.mark.parametrize("options", [(), ("--use-spawn",)], ids=["forked", "spawned"])
def test_they_end_when_their_parent_is_killed(
    settings: Settings,
    start_group: Callable[..., Any],
    eventually: Callable[..., Any],
    options: tuple[str, ...],
) -> None:
    group = start_group("tests.scenarios.worker:broker", settings, processes=2, options=options)
    eventually(lambda: group.log().count("ready for action") == 2)
    children = psutil.Process(group.pid).children(recursive=True)
    assert len(children) >= 2
    os.kill(group.pid, signal.SIGKILL)
    gone = eventually(
        lambda: all(not c.is_running() or c.status() == psutil.STATUS_ZOMBIE for c in children),
        60,
        "the children to end",
    )
    assert gone
