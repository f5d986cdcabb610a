"""Ours: the workload's saga, in real worker processes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from uuid import UUID

import psutil

from benchmarks.load import Load
from benchmarks.meter import Meter
from benchmarks.servers import Worker, worker
from benchmarks.workload import ORDER, Order, build_runtime
from boundary import Runtime, Settings
from saga import Saga


@dataclass(frozen=True, slots=True)
class SagaPeer:
    """So many worker processes of eight threads, here or on each of these hosts.

    Args:
        processes: Of the worker, on each host.
        name, share: As in `Peer`.
        hosts: Network namespaces; none for here.
        module: The worker's program.
        environment: What that finds beside the settings.
        build: Makes the runtime that starts the sagas.
        sagas: Those that it starts, of each as many.
    """

    processes: int
    name: str = "saga"
    share: float = 1.0
    hosts: tuple[str, ...] = ()
    module: str = "benchmarks.worker"
    environment: Mapping[str, str] = field(default_factory=dict)
    build: Callable[[Settings], Runtime] = build_runtime
    sagas: Sequence[Saga[Order]] = (ORDER,)

    @property
    def configuration(self) -> str:
        return f"{self.processes} process(es) of 8 threads"

    def _is_up(self, meter: Meter) -> bool:
        """Whether each host's worker, or as many as there are processes, have come to Postgres."""
        if self.hosts:
            return meter.hosts() >= len(self.hosts)
        return meter.sessions() >= self.processes

    @contextmanager
    def run(self, settings: Settings) -> Iterator["_Running"]:
        runtime = self.build(settings)
        try:
            with (
                Meter(settings) as meter,
                worker(
                    settings, self.processes, 8, self.hosts, self.module, self.environment
                ) as running,
            ):
                running.wait_for(lambda: self._is_up(meter), every=0.01, seconds=60)
                yield _Running(Load(runtime, meter, running, self.sagas), running)
        finally:
            runtime.close()


@dataclass(frozen=True, slots=True)
class _Running:
    load: Load
    worker: Worker

    @property
    def processes(self) -> list[psutil.Process]:
        return self.worker.processes

    def busy(self, count: int, refused: bool) -> Sequence[UUID]:
        return self.load.all_at_once(count, refused)

    def idle(self, count: int, refused: bool) -> tuple[Sequence[UUID], Sequence[float]]:
        return self.load.one_by_one(count, refused)
