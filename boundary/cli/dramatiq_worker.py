"""Dramatiq worker: what `saga worker` has the `dramatiq` command import, in every process.

Names the application by ``SAGA_APP``, so that spawned processes find it as forked ones do.
"""

import os

from boundary.cli.load_app import APP_VARIABLE, load_application

broker = load_application(os.environ[APP_VARIABLE]).worker()
