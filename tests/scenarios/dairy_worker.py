"""What `dramatiq tests.scenarios.dairy_worker:broker` runs: the dairy, freezing where ``FREEZE_AT`` says."""

from boundary import Settings
from tests.scenarios.dairy import freeze_at_commits, make_runtime

broker = make_runtime(Settings()).worker()
freeze_at_commits()
