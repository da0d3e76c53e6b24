"""Encodings and arrays through the graph: batched, padded, run, and split into each text's own."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from bertrt.arrays.inputs import complete_inputs
from bertrt.arrays.outputs import answers, choose_outputs, split_rows
from bertrt.artifact.directory import Artifact
from bertrt.artifact.graph_io import TOKEN_FLAGS
from bertrt.engines.ort_options import OrtOptions
from bertrt.engines.select import DeviceSession, find_target, open_graph
from bertrt.errors import InputError
from bertrt.heads.base import SampleOutputs
from bertrt.scheduling.batching import choose_budget, plan
from bertrt.scheduling.chunks import run_in_chunks, share_batch, split_batch
from bertrt.scheduling.cpu_info import read_cpu_info
from bertrt.scheduling.threads import Threads
from bertrt.scheduling.workers import Workers, balanced, choose_workers, side_by_side
from bertrt.tokenizer import Encoding, Tokenizer, pad

__all__ = ["BatchRunner"]


class BatchRunner:
    """Runs an artifact's graph in batches that suit this machine; a `GraphRunner` for heads.

    Safe to use from many threads, to pickle, and after a fork, as its session is.
    """

    def __init__(
        self,
        artifact: Artifact,
        tokenizer: Tokenizer,
        *,
        threads: Threads,
        spinning: bool,
        batch_tokens: int | str,
        workers: int | str,
    ) -> None:
        """Prepare to run an artifact's graph; the arguments are those of `bertrt.load`."""
        self.target = find_target(artifact.manifest.target)
        self._artifact = artifact
        self._tokenizer = tokenizer
        self._batch_tokens = batch_tokens
        self._for_workers: dict[int, BatchRunner] = {}
        self.threads = threads
        self.workers = choose_workers(workers, threads=threads.count, device=self.target.device)
        self._workers = Workers(self.workers)
        self.budget = choose_budget(
            batch_tokens,
            hidden_size=artifact.config.hidden_size,
            threads=threads.count,
            device=self.target.device,
        )
        self.processor = read_cpu_info()
        self.options = OrtOptions(
            level=self.target.optimization_level,
            threads=threads.count,
            provider=self.target.provider,
            spinning=spinning,
        )
        self._session = open_graph(artifact, self.target, self.options, self.processor.sets)
        self._on_device = self._session if isinstance(self._session, DeviceSession) else None

    def for_workers(self, workers: int) -> "BatchRunner":
        """What runs so many batches at a time: this for one, or else with a session of its own.

        Each worker is one of the threads, and they share the others.
        """
        if workers == 1:
            return self
        if workers not in self._for_workers:
            executor = BatchRunner(
                self._artifact,
                self._tokenizer,
                threads=Threads(self.threads.count - workers + 1, "a worker's share"),
                spinning=self.options.spinning,
                batch_tokens=self._batch_tokens,
                workers=1,
            )
            # Atomic, so that threads that come at once get the same one.
            self._for_workers.setdefault(workers, executor)
        return self._for_workers[workers]

    def run(
        self, *, outputs: Sequence[str] | None = None, like: Any = None, **arrays: Any
    ) -> dict[str, Any]:
        """Run the graph on arrays; see `Runtime.run`.

        The results are tensors on the device where that is the session's and `like` is there, and
        numpy arrays otherwise.
        """
        graph, config = self._artifact.manifest.graph, self._artifact.config
        feeds = None
        if self._on_device is not None:
            feeds = self._on_device.complete(arrays, graph.inputs, config)
        if feeds is None:
            feeds = complete_inputs(arrays, graph.inputs, config)
        names = choose_outputs(outputs, graph.outputs, feeds)
        if self._on_device is not None and self._on_device.holds(like):
            return self._on_device.run_there(feeds, names)
        if self.target.device == "cuda":
            return self._session.run(feeds, names)
        rows, tokens = len(feeds["input_ids"]), feeds["input_ids"].size
        session, workers = self._session, None
        pieces = split_batch(rows, tokens, self.budget.tokens)
        if rows >= self.workers > 1:
            executor = self.for_workers(self.workers)
            shares = share_batch(rows, tokens, executor.budget.tokens, self.workers)
            if balanced([one.stop - one.start for one in shares], self.workers):
                session, workers, pieces = executor._session, self._workers, shares
        return run_in_chunks(lambda some: session.run(some, names), feeds, pieces, workers)

    def rows(
        self,
        encodings: Sequence[Encoding],
        *,
        outputs: Sequence[str] | None = None,
        tokens: str = "all",
    ) -> Iterator[tuple[int, SampleOutputs]]:
        """Run encodings in batches of like length; yield indices and outputs without padding.

        Args:
            encodings: the texts, encoded.
            outputs: the names of the outputs to yield; None for the head's own.
            tokens: whose outputs are wanted, of those that each token has: "all", the "first"
                token's, or the "masks'". A graph that can leaves the others uncomputed.

        Batches are run when their rows are asked for, and a few ahead where there are workers.
        """
        lengths = [len(one) for one in encodings]
        executor, workers, batches = self, None, plan(lengths, self.budget.tokens)
        if len(lengths) >= self.workers > 1:
            worker = self.for_workers(self.workers)
            # The shortest last, so that all end at about the same time.
            shared = plan(lengths, worker.budget.tokens)[::-1]
            if balanced([len(one) * lengths[one[-1]] for one in shared], self.workers):
                executor, workers, batches = worker, self._workers, shared
        calls = (
            partial(executor.batch, [encodings[i] for i in batch], outputs=outputs, tokens=tokens)
            for batch in batches
        )
        for batch, rows in zip(batches, side_by_side(calls, workers), strict=True):
            yield from zip(batch, rows, strict=True)

    def batch(
        self,
        encodings: Sequence[Encoding],
        *,
        outputs: Sequence[str] | None = None,
        tokens: str = "all",
    ) -> list[SampleOutputs]:
        """Run encodings as one batch; their outputs without padding. The arguments are `rows`'."""
        graph = self._artifact.manifest.graph
        choices = len(graph.inputs[0].shape) == 3
        by_token = {one.name for one in graph.outputs if "sequence" in one.shape[1:2]}
        flag = TOKEN_FLAGS[tokens]
        left_out = flag in {one.name for one in graph.inputs}
        flags: dict[str, Any] = {flag: True} if flag is not None and left_out else {}
        arrays = pad(encodings, self._tokenizer.pad_id)
        masks = arrays["input_ids"] == self._tokenizer.mask_id
        if choices:
            # Choices do not see each other, so each may as well be a question of its own.
            arrays = {name: array[:, None] for name, array in arrays.items()}
        values = self.run(outputs=outputs or answers(graph.outputs), **arrays, **flags)
        lengths = [len(one) for one in encodings]
        return list(split_rows(values, by_token, lengths, masks, tokens=tokens, left_out=left_out))

    def warmup(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Open the session and run it once at each shape; see `Runtime.warmup`."""
        for shape in shapes:
            if not (isinstance(shape, (tuple, list)) and [type(n) for n in shape] == [int, int]):
                raise InputError(f"a warm-up shape is {shape!r}: give (batch, sequence)")
            batch, sequence = shape
            length = min(sequence, self._tokenizer.max_length)
            ids = np.zeros((batch, length), dtype=np.int64)
            if len(self._artifact.manifest.graph.inputs[0].shape) == 3:
                ids = ids[:, None]
            self.run(input_ids=ids)
            if (self.target.device, self.target.engine) == ("cuda", "ort"):
                # Its CUDA graphs are the main thread's, or those of all other threads.
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(self.run, input_ids=ids).result()

    def info(self) -> dict[str, Any]:
        """How graphs are run here, for `Runtime.info`."""
        return {
            "threads": self.threads.count,
            "threads_reason": self.threads.reason,
            "spinning": self.options.spinning,
            "batch_tokens": self.budget.tokens,
            "batch_tokens_reason": self.budget.reason,
            "workers": self.workers,
            "worker_batch_tokens": self.for_workers(self.workers).budget.tokens,
            "processor": self.processor.name,
            "processor_sets": list(self.processor.sets),
            "int8": self.processor.int8,
            "graph": self._artifact.graph_path(self.processor.sets).name,
            # A graph for any device runs on the CPU.
            "device": self.target.device.replace("any", "cpu"),
            "engine": self.target.engine,
            "provider": self.target.provider,
            **self._session.info(),
        }

    def check_open(self) -> None:
        """Raise BertrtError when this was closed."""
        self._session.check_open()

    def close(self) -> None:
        """Free the sessions."""
        self._session.close()
        self._workers.close()
        for executor in list(self._for_workers.values()):
            executor.close()
