"""The command line: ``saga``, for those who run a system."""

from boundary.cli.main import main

__all__ = ["main"]
