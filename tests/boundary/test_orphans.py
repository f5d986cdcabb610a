"""Worker processes whose parent is killed alone end too."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from boundary import Settings

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("options", [(), ("--use-spawn",)], ids=["forked", "spawned"])
def test_they_end_when_their_parent_is_killed(
    settings: Settings,
    start_group: Callable[..., Any],
    eventually: Callable[..., Any],
    options: tuple[str, ...],
) -> None:
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests/scenarios")])
    group = start_group(
        "worker:broker", settings, processes=2, environment={"PYTHONPATH": paths}, options=options
    )
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
