"""Run encodings and arrays through the graph: batch, pad, run, and split the outputs again."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np

from bertrt.arrays.inputs import complete_inputs
from bertrt.arrays.outputs import choose_outputs, head_outputs, split_rows
from bertrt.artifact.directory import Artifact
from bertrt.artifact.graph_io import TOKEN_FLAGS
from bertrt.errors import InputError
from bertrt.heads.request import SampleOutputs
from bertrt.scheduling.batching import plan
from bertrt.scheduling.chunks import run_in_chunks, split_batch, split_for_workers
from bertrt.scheduling.session_pool import Part, PooledSession, SessionPool
from bertrt.scheduling.workers import Workers, run_in_order
from bertrt.tokenizer import Tokenizer
from bertrt.tokens import Tokens, pad

__all__ = ["BatchRunner"]


class BatchRunner:
    """The `GraphRunner` of heads: runs an artifact's graph in batches that suit this machine.

    Thread-safe. Can be pickled and used after a fork, as its sessions can.
    """

    def __init__(
        self,
        artifact: Artifact,
        tokenizer: Tokenizer,
        pool: SessionPool,
        session: PooledSession | None = None,
    ) -> None:
        """Run an artifact's graph.

        Args:
            artifact: the artifact.
            tokenizer: the artifact's tokenizer; pads encodings.
            pool: the sessions to choose from.
            session: run everything in this one; chosen for each run when None.
        """
        self._artifact = artifact
        self._tokenizer = tokenizer
        self._pool = pool
        self._session = session

    def for_workers(self, workers: int) -> "BatchRunner":
        """Return a runner for a caller that runs `workers` batches at a time itself."""
        return self if workers == 1 else self._fixed_to(self._pool.narrow(workers))

    @property
    def max_batch_tokens(self) -> int:
        """The most padded tokens of one of this runner's batches."""
        return (self._session or self._pool.wide).budget.tokens

    def run(
        self, *, outputs: Sequence[str] | None = None, like: Any = None, **arrays: Any
    ) -> dict[str, Any]:
        """Run the graph on arrays; see `Runtime.run`.

        Returns tensors on the device if that is where the session runs and `like` is; otherwise
        numpy arrays.
        """
        manifest, config = self._artifact.manifest, self._artifact.config
        graph = manifest.graph
        own = self._session or self._pool.wide
        inputs = None
        if own.on_device is not None:
            inputs = own.on_device.complete_inputs(arrays, graph.inputs, config)
        if inputs is None:
            inputs = complete_inputs(arrays, graph.inputs, config)
        names = choose_outputs(outputs, graph.outputs, inputs, manifest.embedding)
        if own.on_device is not None and own.on_device.is_on_device(like):
            return own.on_device.run_on_device(inputs, names)
        if self._pool.target.device == "cuda":
            return own.session.run(inputs, names)
        rows, tokens = len(inputs["input_ids"]), inputs["input_ids"].size

        def split(pooled: PooledSession, workers: int) -> Sequence[slice]:
            budget = pooled.budget.tokens
            if workers == 1:
                return split_batch(rows, tokens, budget)
            return split_for_workers(rows, tokens, budget, workers)

        pooled, workers, slices = self._choose(rows, split, lambda part: part.stop - part.start)
        return run_in_chunks(
            lambda chunk: pooled.session.run(chunk, names), inputs, slices, workers
        )

    def run_encodings(
        self,
        encodings: Sequence[Tokens],
        *,
        outputs: Sequence[str] | None = None,
        tokens: str = "all",
    ) -> Iterator[tuple[int, SampleOutputs]]:
        """Run encodings in batches of similar length; yield indices and outputs without padding.

        Args:
            encodings: the encoded texts.
            outputs: the names of the outputs to yield; the head's own when None.
            tokens: whose outputs to return, of outputs that each token has: "all", the "first"
                token's, or those of the "masks". Where the graph can, it skips the other tokens.

        A batch runs when its outputs are requested; with workers, a few batches run ahead, and with
        the Triton engine one.
        """
        lengths = [len(encoding) for encoding in encodings]

        def split(pooled: PooledSession, workers: int) -> Sequence[Sequence[int]]:
            batches = plan(lengths, pooled.budget.tokens)
            # Workers take the longest first, so that all finish at about the same time.
            return batches if workers == 1 else batches[::-1]

        pooled, workers, batches = self._choose(
            len(lengths), split, lambda batch: len(batch) * lengths[batch[-1]]
        )
        runner = self if workers is None else self._fixed_to(pooled)
        calls = (
            partial(runner.run_batch, [encodings[i] for i in batch], outputs=outputs, tokens=tokens)
            for batch in batches
        )
        for batch, samples in zip(batches, run_in_order(calls, workers), strict=True):
            yield from zip(batch, samples, strict=True)

    def run_batch(
        self,
        encodings: Sequence[Tokens],
        *,
        outputs: Sequence[str] | None = None,
        tokens: str = "all",
    ) -> list[SampleOutputs]:
        """Run encodings as one batch and return their outputs without padding.

        The arguments are those of `run_encodings`.
        """
        graph = self._artifact.manifest.graph
        by_token = {spec.name for spec in graph.outputs if "sequence" in spec.shape[1:2]}
        flag = TOKEN_FLAGS[tokens]
        skips_tokens = flag in {spec.name for spec in graph.inputs}
        flags: dict[str, Any] = {flag: True} if flag is not None and skips_tokens else {}
        tokenizer = self._tokenizer
        arrays = pad(encodings, tokenizer.pad_id, one_token_type=tokenizer.one_token_type)
        masks = arrays["input_ids"] == self._tokenizer.mask_id
        if self._has_choices:
            # Choices do not see each other, so each can be a question with one choice.
            arrays = {name: array[:, None] for name, array in arrays.items()}
        values = self.run(outputs=outputs or head_outputs(graph.outputs), **arrays, **flags)
        lengths = [len(encoding) for encoding in encodings]
        return list(
            split_rows(values, by_token, lengths, masks, tokens=tokens, skips_tokens=skips_tokens)
        )

    def warmup(self, shapes: Sequence[tuple[int, int]]) -> None:
        """Open the session and run it once at each shape; see `Runtime.warmup`."""
        for shape in shapes:
            if not (isinstance(shape, (tuple, list)) and [type(n) for n in shape] == [int, int]):
                raise InputError(f"a warm-up shape is {shape!r}: give (batch, sequence)")
            batch, sequence = shape
            length = min(sequence, self._tokenizer.max_length)
            ids = np.zeros((batch, length), dtype=np.int64)
            if self._has_choices:
                ids = ids[:, None]
            self.run(input_ids=ids)
            target = self._pool.target
            if (target.device, target.engine) == ("cuda", "ort"):
                # ONNX Runtime keeps CUDA graphs a thread: capture the other threads' too.
                with ThreadPoolExecutor(1) as thread:
                    thread.submit(self.run, input_ids=ids).result()

    @property
    def _has_choices(self) -> bool:
        """Whether the graph's inputs are [B, C, S]."""
        return len(self._artifact.manifest.graph.inputs[0].shape) == 3

    def _choose(
        self,
        rows: int,
        split: Callable[[PooledSession, int], Sequence[Part]],
        size: Callable[[Part], int],
    ) -> tuple[PooledSession, Workers | None, Sequence[Part]]:
        if self._session is not None:
            return self._session, None, split(self._session, 1)
        return self._pool.choose(rows, split, size)

    def _fixed_to(self, session: PooledSession) -> "BatchRunner":
        return BatchRunner(self._artifact, self._tokenizer, self._pool, session)
