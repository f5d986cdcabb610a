"""What `dramatiq worker:broker` runs: the whole shop, relay included."""

from app import make_runtime

from boundary import Settings

broker = make_runtime(Settings()).worker()
