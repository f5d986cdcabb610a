"""What `dramatiq station_worker:broker` runs: the station, with the board or before there was one."""

import os

from station import board, make_runtime

from boundary import Settings

broker = make_runtime(Settings(), (board,) if os.environ.get("STATION_BOARD") else ()).worker()
