"""The gate: a contender's answers against eager PyTorch's in float32, before it is timed.

The bounds part wrong answers from rounding and quantization, in three classes of precision. They
say what counts as an answer at all; how good it is stands beside the time, in the row's error.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Bound", "Verdict", "check"]


@dataclass(frozen=True)
class Bound:
    """How far answers may be from the reference's.

    Args:
        cosine: the least cosine of any one answer with the reference's.
        relative: the largest distance of any one answer, over the reference's length.
    """

    cosine: float
    relative: float


# Floats by their rounding through 24 layers at most, of which float16's is an eighth of
# bfloat16's. int8 so wide that the tools' defaults pass on trained weights, where they give cosines
# of 0.93; noise and bugs do not.
BOUNDS = {
    "float32": Bound(cosine=0.9999, relative=1e-3),
    "float16": Bound(cosine=0.999, relative=0.05),
    "bfloat16": Bound(cosine=0.99, relative=0.1),
    "int8": Bound(cosine=0.8, relative=0.6),
}


@dataclass(frozen=True)
class Verdict:
    """The error, and in one sentence what is wrong; None when nothing is."""

    error: dict[str, float]
    wrong: str | None


def check(answers: np.ndarray, expected: np.ndarray, precision: str) -> Verdict:
    """Compare answers [B, …] with the reference's.

    Returns the largest absolute difference, the largest distance of an answer over the
    reference's length, the worst cosine, and the share of answers whose largest element is where
    the reference's is; no error at all when the answers cannot be compared.
    """
    if answers.shape != expected.shape:
        return Verdict({}, f"the answers' shape is {answers.shape} and not {expected.shape}")
    if not np.isfinite(answers).all():
        return Verdict({}, "the answers hold values that are not finite")
    got, want = (array.reshape(len(array), -1).astype(np.float64) for array in (answers, expected))
    length = np.linalg.norm(want, axis=1)
    relative = np.linalg.norm(got - want, axis=1) / length
    cosine = (got * want).sum(axis=1) / (np.linalg.norm(got, axis=1).clip(min=1e-30) * length)
    error = {
        "max_abs": float(np.abs(got - want).max()),
        "relative": float(relative.max()),
        "worst_cosine": float(cosine.min()),
        "argmax_agreement": float((got.argmax(axis=1) == want.argmax(axis=1)).mean()),
    }
    bound = BOUNDS[precision]
    if error["worst_cosine"] < bound.cosine:
        return Verdict(
            error,
            f"the worst cosine with the reference is {error['worst_cosine']:.6f}, and {precision} "
            f"has to reach {bound.cosine}",
        )
    if error["relative"] > bound.relative:
        return Verdict(
            error,
            f"an answer is {error['relative']:.2g} of its length away from the reference, and "
            f"{precision} may be {bound.relative}",
        )
    return Verdict(error, None)
