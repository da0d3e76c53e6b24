"""bertrt.json, the manifest: the contract between the exporter and the runtime.

Whatever the runtime must know about an artifact is in it.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bertrt.artifact.model_config import ModelConfig
from bertrt.errors import ArtifactError

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "CrossEncoderFacts",
    "EmbeddingFacts",
    "EncoderFacts",
    "FileEntry",
    "Graph",
    "Manifest",
    "MultiVectorFacts",
    "QueryExpansion",
    "SparseFacts",
    "TaskFacts",
    "TensorSpec",
    "TokenizerFacts",
    "Variant",
]

MANIFEST = "bertrt.json"
SCHEMA = 5


@dataclass(frozen=True)
class FileEntry:
    """A file of the artifact: its name, its size in bytes and its sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of the graph. Named dimensions are dynamic: "batch", "sequence", …

    An optional input has a default. An optional output is one that transformers' model lacks; a run
    returns it only on request.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    optional: bool = False


@dataclass(frozen=True)
class Variant:
    """Another file of the same graph, for processors with an instruction set such as "avx512f".

    It has the graph's inputs, outputs and weights; `fused` counts the operators that replace
    others.
    """

    instructions: str
    file: str
    fused: Mapping[str, int]


@dataclass(frozen=True)
class Graph:
    """The graph's file and what a session needs to run it.

    Attributes:
        file: the name of the file.
        opset: the version of the standard ONNX operators.
        least_onnxruntime: the oldest ONNX Runtime that runs it; "" for another engine.
        inputs, outputs: in the order of the graph.
        fused: how many of each fused operator it has.
        least: the oldest versions of the packages that an engine other than ONNX Runtime needs.
        variants: files for some processors, the best first.
    """

    file: str
    opset: int
    least_onnxruntime: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    fused: Mapping[str, int]
    least: Mapping[str, str] = dataclasses.field(default_factory=dict)
    variants: tuple[Variant, ...] = ()


@dataclass(frozen=True)
class TokenizerFacts:
    """What the runtime needs to know about the tokenizer.

    `padding_side` and `truncation_side` say where padding goes and which end of a long text is cut.
    `special_ids` maps the roles pad, unk, cls, sep and mask to ids (None: no such token);
    `all_special_ids` are theirs and those of all other special tokens. `golden` holds sentences
    with their token ids at export, which every load checks again.
    """

    max_length: int
    padding_side: str
    truncation_side: str
    special_ids: Mapping[str, int | None]
    all_special_ids: tuple[int, ...]
    clean_up_tokenization_spaces: bool
    golden: tuple[tuple[str, tuple[int, ...]], ...]


@dataclass(frozen=True, kw_only=True)
class EncoderFacts:
    """How a model takes texts and compares their vectors: what sentence-transformers saved.

    Attributes:
        max_length: the limit in tokens.
        truncation: whether a longer text is cut, rather than an error.
        prompts: what is put before a text, by name.
        default_prompt_name: the prompt of a text for which none is asked; None for no prompt.
        similarity: "cosine", "dot", "euclidean" or "manhattan".
    """

    max_length: int
    truncation: bool
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    similarity: str


@dataclass(frozen=True, kw_only=True)
class EmbeddingFacts(EncoderFacts):
    """How a model makes a vector of a text: what sentence-transformers saved beside it.

    Without its files these are the mean over all tokens, scaled to a Euclidean length of 1.

    Attributes:
        pooling: the poolings whose vectors are concatenated, by sentence-transformers' names.
        include_prompt: whether the tokens of a prompt are pooled.
        modules: what the pooled vector goes through, in order: "Dense", "LayerNorm", "Normalize".
        size: the number of entries of the vector that these modules give.
        dimensions: how many of its leading entries are kept; None for all.
    """

    pooling: tuple[str, ...]
    include_prompt: bool
    modules: tuple[str, ...]
    size: int
    dimensions: int | None

    @property
    def normalize(self) -> bool:
        """Whether the vector is scaled to a Euclidean length of 1."""
        return self.modules[-1:] == ("Normalize",)

    @property
    def only_pools(self) -> bool:
        """Whether nothing but scaling follows the pooling."""
        return set(self.modules) <= {"Normalize"}


@dataclass(frozen=True)
class CrossEncoderFacts:
    """How a classifier scores pairs as a cross-encoder.

    Attributes:
        activation: what turns logits into scores: "identity", "relu", "sigmoid" or "tanh".
        prompts: what is put before a pair's first text, by name.
        default_prompt_name: the prompt of a pair for which none is asked; None for no prompt.
        max_length: the limit in tokens; None for the tokenizer's.
    """

    activation: str
    prompts: Mapping[str, str]
    default_prompt_name: str | None
    max_length: int | None = None


@dataclass(frozen=True, kw_only=True)
class SparseFacts(EncoderFacts):
    """How a model makes a sparse vector of a text: SPLADE, as sentence-transformers saved it.

    Attributes:
        pooling: "max" or "sum" over a text's tokens.
        activation: "relu" for log(1 + relu(logit)); "log1p_relu" for the logarithm of 1 plus that.
        size: the number of entries of the vector, one for each token of the vocabulary.
        top_k: how many of the largest entries are kept; None for all.
        query_weights: the file with the weights of a query's tokens, float32 [size]; None if the
            graph makes the vectors of queries too.
        query_max_length: the limit of such a query in tokens; None for no limit.
        default_kind: "query" or "document", which a text is if nothing is said; None if it has to
            be said. It counts where queries have weights.
    """

    pooling: str
    activation: str
    size: int
    top_k: int | None
    query_weights: str | None = None
    query_max_length: int | None = None
    default_kind: str | None = "document"


@dataclass(frozen=True)
class QueryExpansion:
    """What fills up a query: tokens behind its own, which have vectors too.

    Attributes:
        length: the number of tokens that a query is filled up to.
        fixed: whether a longer query is cut to that number; otherwise it stays as it is.
        attend: whether all tokens of the query attend to those. Those attend to its own in any
            case.
        token_id: the token.
    """

    length: int
    fixed: bool
    attend: bool
    token_id: int


@dataclass(frozen=True, kw_only=True)
class MultiVectorFacts(EncoderFacts):
    """How a model makes a vector of each token of a text: ColBERT, as it was saved.

    `max_length` is the limit of documents, and `similarity` is "maxsim" or "meanmaxsim".

    Attributes:
        modules: what each token's hidden state goes through, in order: "Dense", "Normalize".
        size: the number of entries of a vector.
        query_length: the limit of queries in tokens.
        expansion: what fills up a query; None for nothing.
        skipped_ids: the tokens that have no vector, by "query" and "document".
    """

    modules: tuple[str, ...]
    size: int
    query_length: int
    expansion: QueryExpansion | None
    skipped_ids: Mapping[str, tuple[int, ...]]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "MultiVectorFacts":
        """Read them from the manifest."""
        expansion = data["expansion"]
        return cls(
            **{
                **data,
                "modules": tuple(data["modules"]),
                "expansion": None if expansion is None else QueryExpansion(**expansion),
                "skipped_ids": {kind: tuple(ids) for kind, ids in data["skipped_ids"].items()},
            }
        )


# What a task needs to know beside its graph.
TaskFacts = EmbeddingFacts | CrossEncoderFacts | SparseFacts | MultiVectorFacts


@dataclass(frozen=True)
class Manifest:
    """The contents of bertrt.json.

    `architecture` is transformers' class of the model, and `model` its config in BERT's terms.
    `parity` compares the graph with PyTorch; for int8, the graph before quantization.
    `quantization` says how an int8 graph was made and how close its answers are; None for other
    dtypes. `text_graph` names the graph that takes text, and counts the texts that its tokenizer
    splits differently; None without such a graph. `embedding` is None for other tasks than
    feature-extraction, `cross_encoder` for others than text-classification, `sparse` for others
    than sparse-embedding, and `multi_vector` for others than multi-vector-embedding.
    """

    schema: int
    task: str
    architecture: str
    model: ModelConfig
    target: Mapping[str, str]
    source: Mapping[str, Any]
    graph: Graph
    tokenizer: TokenizerFacts
    parity: Mapping[str, Any]
    files: tuple[FileEntry, ...]
    versions: Mapping[str, str]
    quantization: Mapping[str, Any] | None = None
    text_graph: Mapping[str, Any] | None = None
    embedding: EmbeddingFacts | None = None
    cross_encoder: CrossEncoderFacts | None = None
    sparse: SparseFacts | None = None
    multi_vector: MultiVectorFacts | None = None

    @property
    def facts(self) -> TaskFacts | None:
        """What the task needs to know beside its graph; None if that is nothing."""
        return self.embedding or self.cross_encoder or self.sparse or self.multi_vector

    @property
    def weights(self) -> FileEntry:
        """The file with the weights, which is the graph's largest."""
        files = [file for file in self.files if file.name.startswith(self.graph.file)]
        return max(files, key=lambda file: file.size)

    def to_json(self) -> str:
        """Return the text of bertrt.json."""
        return json.dumps(dataclasses.asdict(self), indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str = MANIFEST) -> "Manifest":
        """Read the text of bertrt.json; `where` is its path, for errors.

        Raises ArtifactError for a text that is not a manifest, is damaged, or has another schema.
        """
        try:
            data = json.loads(text)
            schema = data["schema"]
            if not isinstance(schema, int):
                raise TypeError(f"schema is {schema!r}")
            if schema != SCHEMA:
                upgrade = "upgrade bertrt, or " if schema > SCHEMA else ""
                raise ArtifactError(
                    f"{where} has schema {schema}, and this bertrt reads schema {SCHEMA}: "
                    f"{upgrade}export the checkpoint again"
                )
            graph, tokenizer = dict(data["graph"]), dict(data["tokenizer"])
            for side in ("inputs", "outputs"):
                graph[side] = tuple(
                    TensorSpec(
                        one["name"],
                        one["dtype"],
                        tuple(one["shape"]),
                        one.get("optional", False),
                    )
                    for one in graph[side]
                )
            graph["variants"] = tuple(Variant(**one) for one in graph.get("variants", ()))
            tokenizer["all_special_ids"] = tuple(tokenizer["all_special_ids"])
            tokenizer["golden"] = tuple((str(t), tuple(ids)) for t, ids in tokenizer["golden"])
            embedding = data.get("embedding")
            if embedding is not None:
                embedding["pooling"] = tuple(embedding["pooling"])
                embedding["modules"] = tuple(embedding["modules"])
                data["embedding"] = EmbeddingFacts(**embedding)
            if data.get("cross_encoder") is not None:
                data["cross_encoder"] = CrossEncoderFacts(**data["cross_encoder"])
            if data.get("sparse") is not None:
                data["sparse"] = SparseFacts(**data["sparse"])
            if data.get("multi_vector") is not None:
                data["multi_vector"] = MultiVectorFacts.from_dict(data["multi_vector"])
            return cls(
                **{
                    **data,
                    "model": ModelConfig.from_dict(data["model"]),
                    "graph": Graph(**graph),
                    "tokenizer": TokenizerFacts(**tokenizer),
                    "files": tuple(FileEntry(**one) for one in data["files"]),
                }
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ArtifactError(
                f"{where} is damaged ({error!r}): export the checkpoint again"
            ) from error
