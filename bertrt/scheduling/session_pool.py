"""The sessions of one runtime: a wide one with all threads, and narrow ones for workers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bertrt.artifact.directory import Artifact
from bertrt.engines.ort_options import OrtOptions
from bertrt.engines.select import DeviceSession, GraphSession, find_target, open_graph
from bertrt.scheduling.batching import Budget, choose_budget
from bertrt.scheduling.cpu_info import read_cpu_info
from bertrt.scheduling.threads import Threads
from bertrt.scheduling.workers import Workers, choose_workers, finish_together

__all__ = ["Part", "PooledSession", "SessionPool"]

# While a device runs a batch, the next one is packed and queued behind it.
_IN_FLIGHT = 2

# A part of the rows of a run: a slice of an array, or the indices of a batch.
Part = TypeVar("Part")


@dataclass(frozen=True)
class PooledSession:
    """A session on the artifact's graph, its threads, and the token budget of its batches.

    `on_device` is the same session if it also takes and returns arrays on its device.
    """

    session: GraphSession
    threads: Threads
    budget: Budget
    on_device: DeviceSession | None


class SessionPool:
    """Opens sessions on an artifact's graph and chooses the one that suits a run.

    The wide session runs one batch at a time with all threads. A narrow session runs a batch for
    each worker at a time: each worker is one of the threads, and they share the rest. A narrow
    session holds the weights a second time, so it is opened when it is first needed.
    """

    def __init__(
        self,
        artifact: Artifact,
        *,
        threads: Threads,
        allow_spinning: bool,
        max_batch_tokens: int | str,
        workers: int | str,
    ) -> None:
        """Prepare the sessions of an artifact; the arguments are those of `bertrt.load`."""
        self.target = find_target(artifact.manifest.target)
        self.workers = choose_workers(workers, threads=threads.count, device=self.target.device)
        self.allow_spinning = allow_spinning
        self.cpu = read_cpu_info()
        self._artifact = artifact
        self._max_batch_tokens = max_batch_tokens
        self._narrow: dict[int, PooledSession] = {}
        self.wide = self._prepare(threads)
        self._worker_threads = (
            Workers(self.workers) if self.wide.on_device is None else Workers(_IN_FLIGHT, 1)
        )

    def narrow(self, workers: int) -> PooledSession:
        """Return the session that runs `workers` batches at a time; the wide one for 1."""
        if workers == 1:
            return self.wide
        if workers not in self._narrow:
            # setdefault is atomic: threads that come at the same time get the same session.
            self._narrow.setdefault(workers, self._prepare(self._share(workers)))
        return self._narrow[workers]

    def choose(
        self,
        rows: int,
        split: Callable[[PooledSession, int], Sequence[Part]],
        size: Callable[[Part], int],
    ) -> tuple[PooledSession, Workers | None, Sequence[Part]]:
        """Choose how to run rows: side by side on workers, or in turn with all threads.

        Workers are chosen if they would finish at about the same time. A session that keeps arrays
        on its device has two threads for two parts or more, the second of which prepares.

        Args:
            rows: how many rows there are.
            split: splits the rows into parts for a session and a number of workers.
            size: the size of a part, in any unit.

        Returns the session, the workers (None: run the parts in turn), and the parts.
        """
        if rows >= self.workers > 1:
            narrow = self.narrow(self.workers)
            parts = split(narrow, self.workers)
            if finish_together([size(part) for part in parts], self.workers):
                return narrow, self._worker_threads, parts
        parts = split(self.wide, 1)
        in_flight = self.wide.on_device is not None and len(parts) > 1
        return self.wide, self._worker_threads if in_flight else None, parts

    def info(self) -> dict[str, Any]:
        """Return how graphs are run here, for `Runtime.info`."""
        wide = self.wide
        return {
            "threads": wide.threads.count,
            "threads_reason": wide.threads.reason,
            "allow_spinning": self.allow_spinning,
            "max_batch_tokens": wide.budget.tokens,
            "max_batch_tokens_reason": wide.budget.reason,
            "workers": self.workers,
            "worker_max_batch_tokens": self._budget(self._share(self.workers)).tokens,
            "processor": self.cpu.name,
            "instruction_sets": list(self.cpu.sets),
            "int8": self.cpu.int8,
            "graph": self._artifact.graph_path(self.cpu.sets).name,
            # A graph for any device runs on the CPU.
            "device": self.target.device.replace("any", "cpu"),
            "engine": self.target.engine,
            "provider": self.target.provider,
            **wide.session.info(),
        }

    def check_open(self) -> None:
        """Raise BertrtError after `close`."""
        self.wide.session.check_open()

    def close(self) -> None:
        """Free all sessions and end the worker threads."""
        for pooled in (self.wide, *self._narrow.values()):
            pooled.session.close()
        self._worker_threads.close()

    def _share(self, workers: int) -> Threads:
        """Return the threads of one worker's run: its own, and those that the workers share."""
        threads = self.wide.threads
        if workers == 1:
            return threads
        return Threads(threads.count - workers + 1, "a worker's share")

    def _budget(self, threads: Threads) -> Budget:
        return choose_budget(
            self._max_batch_tokens,
            hidden_size=self._artifact.config.hidden_size,
            threads=threads.count,
            device=self.target.device,
        )

    def _prepare(self, threads: Threads) -> PooledSession:
        options = OrtOptions(
            level=self.target.optimization_level,
            threads=threads.count,
            provider=self.target.provider,
            allow_spinning=self.allow_spinning,
        )
        session = open_graph(self._artifact, self.target, options, self.cpu.sets)
        on_device = session if isinstance(session, DeviceSession) else None
        return PooledSession(session, threads, self._budget(threads), on_device)
