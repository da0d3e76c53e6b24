"""Test EmbedLayerNorm against PyTorch's embedding and layer_norm, and against its reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.ops.registry import OPERATORS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
embed_layer_norm = KERNELS["EmbedLayerNorm"]
TABLES = (50, 2, 20)


@pytest.fixture
def arguments(normal: Make, device: str) -> Callable[..., list[torch.Tensor]]:
    """Make the operator's inputs, which use the first and the last row of each table."""

    def make(rows: int, columns: int, dtype: torch.dtype) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(2)
        indices = []
        for size in TABLES:
            index = torch.randint(size, (rows,), generator=generator, dtype=torch.int32)
            index[:2] = torch.tensor([0, size - 1])[:rows]
            indices.append(index.to(device))
        tables = [normal(size, columns, dtype=dtype) for size in TABLES]
        return [*indices, *tables, normal(columns, dtype=dtype), normal(columns, dtype=dtype)]

    return make


@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 30), (5, 16), (2, 24), (3, 128), (7, 384), (3, 1000), (0, 64)]
)
def test_matches_layer_norm_of_three_embeddings(
    rows: int,
    columns: int,
    dtype: torch.dtype,
    arguments: Callable[..., list[torch.Tensor]],
    near: Callable[..., None],
) -> None:
    inputs = arguments(rows, columns, dtype)

    def torch_layer_norm(cast: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        pairs = zip(inputs[:3], inputs[3:6], strict=True)
        word, type_, position = (F.embedding(index, cast(table)) for index, table in pairs)
        return F.layer_norm(
            word + type_ + position, (columns,), cast(inputs[6]), cast(inputs[7]), 1e-12
        )

    got = embed_layer_norm(*inputs)
    assert got.dtype == dtype
    near(got, torch_layer_norm(torch.Tensor.double), torch_layer_norm(lambda x: x))


def test_matches_the_reference(arguments: Callable[..., list[torch.Tensor]]) -> None:
    inputs = arguments(9, 48, torch.float32)
    expected = OPERATORS["EmbedLayerNorm"].reference(
        *(tensor.cpu().numpy() for tensor in inputs), epsilon=0.5
    )
    np.testing.assert_allclose(embed_layer_norm(*inputs, epsilon=0.5).cpu(), expected, atol=1e-5)
