"""The boundary: the orchestrator, its runtime, and what operators use."""

from boundary.runtime import Runtime
from boundary.runtime.saga_handle import SagaHandle
from boundary.settings import Settings

__all__ = [
    # What an application wires together
    "Runtime",
    "Settings",
    # What `start` returns
    "SagaHandle",
]
