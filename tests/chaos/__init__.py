"""The fault harness: real servers, real workers, real faults, and a checker that trusts nobody.

``python -m tests.chaos --profile workers --trips 2000`` books trips while the faults of a profile
strike, waits until all is quiet, and reads the tables, an effects ledger and the log of an
outside HTTP server to see whether anything was lost or done twice.
"""
