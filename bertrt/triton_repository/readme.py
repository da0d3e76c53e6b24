"""The README.md of a repository: what its model takes and gives, and how to start it."""

from bertrt._version import __version__
from bertrt.artifact.directory import Artifact
from bertrt.triton_repository.graph_kinds import least_triton
from bertrt.triton_repository.model_config import Interface, Settings

__all__ = ["readme"]

_HEAD = """\
# {name}: a model repository for Triton Inference Server

`bertrt export-triton --kind {kind}` of bertrt {version} wrote it from an artifact of `{source}`
for {task}.

| | tensor | type | shape |
|---|---|---|---|
{tensors}

A request has at most {max_batch} texts. At most {queue} requests wait, each for 30 seconds unless
it has a time-out of its own. These numbers are in `config.pbtxt`. Each folder here is a model: to
serve it beside others, move all folders into one repository.

"""

_PYTHON = """\
bertrt has to be in the server's image. From a checkout of bertrt, with a release of Triton for
`YY.MM` that has Python 3.11 or newer:

```dockerfile
FROM nvcr.io/nvidia/tritonserver:YY.MM-py3
COPY . /source
RUN pip install --no-cache-dir '/source[{extra}]'
```

"""

_SETTINGS = """\
Parameters in `config.pbtxt`: `threads`, a number or `auto` for the CPUs that the container may
use, and `truncation`, `true` if texts that are too long are cut and `false` if they are refused.
"""

_GRAPH = """\
The graph needs ONNX Runtime {onnxruntime} or newer{release}. Its weights may be in
`model.onnx_data` beside it, where ONNX Runtime finds them by the graph's path. A session takes
all cores of the machine unless `config.pbtxt` has the parameter `intra_op_thread_count`
(`bertrt export-triton --threads`).
"""

_TEXT = """
Texts are split in the graph by the operator `BertTokenizer` of onnxruntime-extensions. Build its
library for the ONNX Runtime of the server, and put it where `op_library_filename` in
`config.pbtxt` says: `{op_library}`. Of {compared} texts that were compared it splits {different}
in another way than the checkpoint's tokenizer. It cuts texts at {max_length} tokens.
"""

_ENSEMBLE = """
`{name}_tokenizer` pads texts to a few lengths, since Triton merges requests of equal shapes only.
The parameter `truncation` in its `config.pbtxt` is `true` if texts that are too long are cut, and
`false` if they are refused.
"""

_VARIANT = """
On processors with AVX-512, `{file}` is faster: name it as `default_model_filename` of
`{name}_graph`.
"""

_UNTRIED = """
The artifact is for a GPU, and no GPU has run it yet.
"""

_START = """
Start it, with {image} for `IMAGE`:

```sh
docker run --rm -p 8000:8000 -p 8001:8001 -v "$PWD:/models:ro" IMAGE \\
    tritonserver --model-repository=/models
```

Ask it:

```python
import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient("localhost:8000")
{asked}
result = client.infer("{name}", [{inputs}])
print(result.as_numpy("{output}"))
```
"""


def readme(artifact: Artifact, kind: str, settings: Settings, interface: Interface) -> str:
    """Return the text, for a model with an interface."""
    manifest = artifact.manifest
    parts = [
        _HEAD.format(
            name=settings.name,
            kind=kind,
            version=__version__,
            source=manifest.source.get("model"),
            task=manifest.task,
            tensors="\n".join(_rows(interface)),
            max_batch=settings.max_batch,
            queue=settings.queue,
        )
    ]
    on_gpu = manifest.target["device"] == "cuda"
    if kind != "text":
        parts.append(_PYTHON.format(extra="gpu" if on_gpu else "cpu"))
    parts += [_SETTINGS] if kind == "python" else _graph(artifact, kind, settings)
    if on_gpu:
        parts.append(_UNTRIED)
    parts.append(_start(kind, settings, interface))
    return "".join(parts)


def _rows(interface: Interface) -> list[str]:
    """Return the rows of the table of tensors, in shapes as clients send and get them."""
    rows = []
    for kind, tensors in (("input", interface.inputs), ("output", interface.outputs)):
        for one in tensors:
            sizes = ["n", *("any" if size < 0 else str(size) for size in one.shape[1:] or (1,))]
            what = "optional input" if one.name in interface.optional else kind
            rows.append(f"| {what} | `{one.name}` | {one.datatype} | [{', '.join(sizes)}] |")
    return rows


def _graph(artifact: Artifact, kind: str, settings: Settings) -> list[str]:
    """Return what there is to know where ONNX Runtime runs the graph."""
    manifest = artifact.manifest
    least = manifest.graph.least_onnxruntime
    release = least_triton(least)
    known = f", which Triton {release} has" if release else ""
    parts = [_GRAPH.format(onnxruntime=least, release=known)]
    if kind == "text" and manifest.text_graph is not None:
        numbers = {name: manifest.text_graph[name] for name in ("compared", "different")}
        length = manifest.tokenizer.max_length
        parts.append(_TEXT.format(op_library=settings.op_library, max_length=length, **numbers))
    if kind == "ensemble":
        parts.append(_ENSEMBLE.format(name=settings.name))
        parts += [
            _VARIANT.format(file=variant.file, name=settings.name)
            for variant in manifest.graph.variants
        ]
    return parts


def _start(kind: str, settings: Settings, interface: Interface) -> str:
    """Return how to start and ask a model."""
    asked, names = [], []
    for tensor in interface.inputs:
        if tensor.name not in interface.optional:
            names.append(tensor.name)
            values = '[["A cat sat."], ["It slept."]]'
            asked += [
                f'{tensor.name} = triton.InferInput("{tensor.name}", [2, 1], "BYTES")',
                f"{tensor.name}.set_data_from_numpy(np.array({values}, object))",
            ]
    return _START.format(
        image="NVIDIA's image" if kind == "text" else "that image",
        asked="\n".join(asked),
        name=settings.name,
        inputs=", ".join(names),
        output=interface.outputs[-1].name,
    )
