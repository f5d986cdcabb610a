"""Benchmarks: what the framework costs, on the machine and the servers at hand.

- `commits`: commits and statements per delivery, sagas a second, latency; ``python -m`` runs it.
- `workload`: the saga that is measured, and its contexts.
- `worker`: what the `dramatiq` command runs.
- `servers`: a schema of one run's own, and its worker processes.
- `meter`: what Postgres has counted.
- `report`: the figures as a table and as JSON, with the machine and the versions.
"""
