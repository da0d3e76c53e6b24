"""Answer requests, with their encodings batched together."""

from collections.abc import Sequence
from itertools import accumulate

from bertrt.heads.request import Answer, GraphRunner, HeadRequest, SampleOutputs

__all__ = ["run_requests"]


def run_requests(requests: Sequence[HeadRequest], runner: GraphRunner) -> list[Answer]:
    """Return the answers to requests of one call, in their order.

    Requests may differ in the outputs and tokens that they need; each finds its own in all.
    """
    answers: list[Answer] = [None] * len(requests)
    running = [i for i, one in enumerate(requests) if one.encodings and not one.runs_itself]
    for index in {*range(len(requests))}.difference(running):
        answers[index] = requests[index].finish(())
    if not running:
        return answers
    outputs = {name for index in running for name in requests[index].outputs or ()}
    tokens = {requests[index].tokens for index in running}
    owners = [index for index in running for _ in requests[index].encodings]
    sizes = [len(requests[index].encodings) for index in running]
    starts = dict(zip(running, accumulate(sizes, initial=0), strict=False))
    # Each input is finished, and its outputs freed, as soon as its last encoding has run.
    pending: dict[int, dict[int, SampleOutputs]] = {}
    for position, sample in runner.run_encodings(
        [encoding for index in running for encoding in requests[index].encodings],
        outputs=sorted(outputs) or None,
        tokens=tokens.pop() if len(tokens) == 1 else "all",
    ):
        owner = owners[position]
        samples = pending.setdefault(owner, {})
        samples[position - starts[owner]] = sample
        if len(samples) == len(requests[owner].encodings):
            answers[owner] = requests[owner].finish([samples[i] for i in sorted(samples)])
            del pending[owner]
    return answers
