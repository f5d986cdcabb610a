"""What `dramatiq tests.scenarios.station_worker:broker` runs: the station, with the board or before there was one."""

import os

from boundary import Settings
from tests.scenarios.station import board, make_runtime

broker = make_runtime(Settings(), (board,) if os.environ.get("STATION_BOARD") else ()).worker()
