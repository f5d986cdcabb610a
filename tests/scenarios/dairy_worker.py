"""What `dramatiq dairy_worker:broker` runs: the dairy, freezing where ``FREEZE_AT`` says."""

from dairy import freeze_at_commits, make_runtime

from boundary import Settings

broker = make_runtime(Settings()).worker()
freeze_at_commits()
