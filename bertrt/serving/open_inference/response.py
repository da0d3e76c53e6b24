"""Write the answer to an inference request: JSON, and after it the data of binary outputs."""

from collections.abc import Sequence
from typing import Any

from bertrt.serving.json_pieces import write_pieces
from bertrt.serving.message import Response
from bertrt.serving.open_inference.tensors import OutputTensor

__all__ = ["write_response"]


def write_response(
    model: str, version: str, id: str | None, outputs: Sequence[tuple[OutputTensor, bool]]
) -> Response:
    """Return the answer with these outputs, each with whether it is to be binary."""
    described, parts = [], []
    for tensor, is_binary in outputs:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        if is_binary:
            parts.append(tensor.binary())
            entry["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            entry["data"] = tensor.json()
        described.append(entry)
    answer = {"model_name": model, "model_version": version, "outputs": described}
    if id is not None:
        answer = {"id": id, **answer}
    header = b"".join(write_pieces(answer))
    if not parts:
        return Response(header)
    return Response(
        b"".join([header, *parts]),
        content_type="application/octet-stream",
        headers={"inference-header-content-length": str(len(header))},
    )
