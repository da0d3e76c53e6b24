"""Plan batches: rows sorted by length, up to a budget of padded tokens.

Sorting keeps padding small, and a small budget keeps a batch's activations in the caches. The
number of rows is not limited: many short rows measure as well as few long ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bertrt.checks import check_whole_or_auto

__all__ = ["Budget", "choose_budget", "plan"]

# Near the best on every machine where it was measured.
_UNKNOWN_CACHE = 256
_LEAST, _MOST = 128, 1024
# Within 4 % of the best of 64 to 1024, for 384 and 768 features, float32 and int8. 384 is faster
# by 1 to 3 % in float32, and pads texts by as much more.
_ONE_THREAD = 256
# Estimated to fill a large GPU: 128 sequences of 128 tokens. Not measured yet.
_GPU = 16384


@dataclass(frozen=True)
class Budget:
    """The most padded tokens of a batch, and a sentence that says why."""

    tokens: int
    reason: str


def choose_budget(
    max_batch_tokens: int | str = "auto",
    *,
    hidden_size: int,
    threads: int,
    device: str = "cpu",
    root: Path = Path("/"),
) -> Budget:
    """Return the token budget of a runtime.

    "auto" is what fits into the second-level caches of the cores in use: two float32 hidden states
    a token (a layer's input and output), 8·H bytes, rounded down to a power of two, and between
    128 (smaller matrix products lose speed) and 1024 (larger batches have more padding): 256 for
    BERT-base on two cores with 1 MB each. From half to twice that, times differ by a few percent.
    One thread gets 256. A GPU gets 16,384; with the Triton engine, padding costs nothing.

    Args:
        max_batch_tokens: a number, or "auto".
        hidden_size: H.
        threads: the number of threads of a run.
        device: the device of the artifact's target; "cuda" for a GPU.
        root: where `sys` is mounted; another folder in tests.

    Raises InputError for anything that is neither "auto" nor a whole number of at least 1.
    """
    check_whole_or_auto("max_batch_tokens", max_batch_tokens)
    if isinstance(max_batch_tokens, int):
        return Budget(max_batch_tokens, "chosen by the caller")
    if device == "cuda":
        return Budget(_GPU, "large batches fill a GPU")
    if threads == 1:
        return Budget(_ONE_THREAD, "fastest for one thread")
    cache = _second_level_cache(root, threads)
    if not cache:
        return Budget(_UNKNOWN_CACHE, "the sizes of this machine's caches are not known")
    fitting = cache // (8 * hidden_size)
    tokens = min(max(1 << max(fitting.bit_length() - 1, 0), _LEAST), _MOST)
    return Budget(tokens, f"{cache >> 10} kB of second-level cache, hidden size {hidden_size}")


def plan(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Split rows into batches.

    Args:
        lengths: each row's length in tokens.
        budget: the most padded tokens (rows × longest row) of a batch; a longer row is a batch
            of its own.

    Returns lists of indices into `lengths`: each index once, shortest rows first.
    """
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        # In this order, each row is the longest of its batch so far.
        if batches and (len(batches[-1]) + 1) * lengths[index] <= budget:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def _second_level_cache(root: Path, threads: int) -> int:
    """Return the bytes of second-level cache that so many threads share; 0: not known."""
    for cache in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        try:
            if (cache / "level").read_text().strip() != "2":
                continue
            size = _bytes((cache / "size").read_text().strip())
            sharing = _count((cache / "shared_cpu_list").read_text().strip())
        except (OSError, ValueError):
            return 0
        return size * max(1, threads // sharing)
    return 0


def _bytes(text: str) -> int:
    """Return the number of bytes of a size such as 1024K."""
    units = {"K": 1 << 10, "M": 1 << 20}
    return int(text[:-1]) * units[text[-1]] if text[-1:] in units else int(text)


def _count(cpus: str) -> int:
    """Return how many CPUs a list such as 0-3,8 names."""
    ends = [part.split("-") for part in cpus.split(",")]
    return sum(int(part[-1]) - int(part[0]) + 1 for part in ends)
