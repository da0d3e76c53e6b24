"""The modules that make a text's vector of its hidden states, in PyTorch.

They are sentence-transformers' Dense, LayerNorm (PyTorch's own) and Normalize: the parity check
runs them as they are, and the layers are traced to the graph.
"""

from collections.abc import Sequence

import numpy as np
import torch

from bertrt.heads.pooling import pool

__all__ = ["Dense", "Normalize", "VectorModules"]

# The smallest divisor of a vector, as in bertrt.heads.pooling: zeros stay zeros.
_SHORTEST = 1e-12


class Dense(torch.nn.Module):
    """A linear layer with an activation, and optionally a residual connection around both."""

    def __init__(
        self, sizes: tuple[int, int], activation: torch.nn.Module, *, bias: bool, residual: bool
    ) -> None:
        """Make a layer from `sizes[0]` to `sizes[1]` features, whose weights are loaded later."""
        super().__init__()
        self.linear = torch.nn.Linear(*sizes, bias=bias)
        self.activation_function = activation
        self.use_residual = residual
        if residual and sizes[0] != sizes[1]:
            self.residual = torch.nn.Linear(*sizes, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map vectors [B, in] to [B, out]."""
        y: torch.Tensor = self.activation_function(self.linear(x))
        if not self.use_residual:
            return y
        return y + (self.residual(x) if hasattr(self, "residual") else x)


class Normalize(torch.nn.Module):
    """Scales each vector [B, D] to a Euclidean length of 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale vectors; those of zeros stay zeros."""
        return torch.nn.functional.normalize(x, dim=-1, eps=_SHORTEST)


class VectorModules(torch.nn.Module):
    """What makes a text's vector of the hidden states of its tokens.

    Attributes:
        pooling: the poolings whose vectors are concatenated.
        include_prompt: whether the tokens of a prompt are pooled.
        steps: the modules after the pooling, in order: Dense, LayerNorm and Normalize.
        size: the number of entries of a vector.
    """

    def __init__(
        self,
        pooling: Sequence[str],
        steps: Sequence[torch.nn.Module],
        size: int,
        *,
        include_prompt: bool = True,
    ) -> None:
        """Combine poolings and modules, which give `size` entries."""
        super().__init__()
        self.pooling = tuple(pooling)
        self.include_prompt = include_prompt
        self.steps = torch.nn.ModuleList(steps)
        self.size = size
        self.eval()

    @property
    def names(self) -> tuple[str, ...]:
        """The class of each module after the pooling."""
        return tuple(type(step).__name__ for step in self.steps)

    def vectors(self, hidden: np.ndarray, lengths: Sequence[int]) -> np.ndarray:
        """Return texts' vectors [B, D] as sentence-transformers computes them, text by text.

        Args:
            hidden: the last hidden states [B, S, H], in the precision of the modules.
            lengths: how many tokens of each row are the text's.
        """
        rows = []
        for states, length in zip(hidden, lengths, strict=True):
            sample = {"last_hidden_state": states[:length]}
            rows.append(np.concatenate([pool(sample, name) for name in self.pooling]))
        vectors = torch.from_numpy(np.stack(rows))
        with torch.inference_mode():
            for step in self.steps:
                vectors = step(vectors)
        return np.asarray(vectors.numpy())
