"""EmbedLayerNorm against PyTorch's embedding and layer_norm, and against its reference."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bertrt.kernels.ops import OPERATORS
from bertrt.kernels.triton import KERNELS

pytestmark = pytest.mark.usefixtures("poisoned")
Make = Callable[..., torch.Tensor]
embed_layer_norm = KERNELS["EmbedLayerNorm"]
TABLES = (50, 2, 20)


@pytest.fixture
def arguments(normal: Make, device: str) -> Callable[..., list[torch.Tensor]]:
    """A factory of the operator's inputs, with the first and the last row of each table in use."""

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


@pytest.mark.parametrize(("rows", "columns"), [(1, 30), (7, 384), (3, 1000), (0, 64)])
def test_is_layer_norm_of_three_embeddings(
    rows: int,
    columns: int,
    dtype: torch.dtype,
    arguments: Callable[..., list[torch.Tensor]],
    near: Callable[..., None],
) -> None:
    given = arguments(rows, columns, dtype)

    def torchs(cast: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        pairs = zip(given[:3], given[3:6], strict=True)
        word, kind, place = (F.embedding(index, cast(table)) for index, table in pairs)
        return F.layer_norm(word + kind + place, (columns,), cast(given[6]), cast(given[7]), 1e-12)

    got = embed_layer_norm(*given)
    assert got.dtype == dtype
    near(got, torchs(torch.Tensor.double), torchs(lambda one: one))


def test_equals_its_reference(arguments: Callable[..., list[torch.Tensor]]) -> None:
    given = arguments(9, 48, torch.float32)
    want = OPERATORS["EmbedLayerNorm"].reference(*(one.cpu().numpy() for one in given), epsilon=0.5)
    np.testing.assert_allclose(embed_layer_norm(*given, epsilon=0.5).cpu(), want, atol=1e-5)
