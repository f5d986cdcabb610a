"""A release of the clinic from before letters were written, and that knows two sagas only."""

from boundary import Settings
from internals import Context
from tests.scenarios.clinic import CONTEXTS, ward
from tests.scenarios.clinic_sagas import STUBBORN, VISIT, make_runtime

old_ward = Context("ward")
old_ward.handlers.update({k: h for k, h in ward.handlers.items() if k != "ward.letter"})

broker = make_runtime(
    Settings(),
    tuple(old_ward if context is ward else context for context in CONTEXTS),
    sagas=(VISIT, STUBBORN),
).worker()
