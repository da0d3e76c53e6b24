"""Token vectors and MaxSim beside sentence-transformers' MultiVectorEncoder, in all its forms."""

import json
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import bertrt
from bertrt.errors import InputError
from bertrt.export import export

pytest.importorskip("sentence_transformers", minversion="6.2")
from sentence_transformers import MultiVectorEncoder

# Both compute in float32, and in another order.
ATOL = 1e-5
QUERIES = [
    "who is the president of the united states",
    "",
    "london",
    "the cat sat on the mat " * 12,
    "what?! (yes); no...",
    "[unused0] who",
    "中国人 café",
]
DOCUMENTS = [
    "Mary lives in London, by the river.",
    "",
    "!",
    "... --- !!!",
    "the cat sat on the mat, and the dog sat on the cat. " * 8,
    "[unused1] [Q] [D] [MASK] who",
    "John Smith works at Google in New York.",
    *(" ".join("the cat sat on a mat".split()[: i % 6 + 1]) for i in range(9)),
]

_PUNCTUATION = list(string.punctuation)
_PYLATE = {
    "query_prefix": "[unused0] ",
    "document_prefix": "[unused1] ",
    "similarity_fn_name": "MaxSim",
}
# The name of a case to what writes its folder, and the options of that.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "stanford": (
        "save_stanford",
        {"metadata": {"query_maxlen": 13, "doc_maxlen": 29, "dim": 7, "similarity": "cosine"}},
    ),
    "stanford-attends": (
        "save_stanford",
        {
            "metadata": {
                "query_maxlen": 20,
                "attend_to_mask_tokens": True,
                "mask_punctuation": False,
                "query_token_id": "[unused1]",
                "doc_token_id": "[unused0]",
            }
        },
    ),
    "stanford-bare": ("save_stanford", {"metadata": None}),
    "pylate": (
        "save_pylate",
        {
            "settings": {
                **_PYLATE,
                "model_type": "ColBERT",
                "query_length": 16,
                "document_length": 31,
                "do_query_expansion": True,
                "attend_to_expansion_tokens": False,
                "skiplist_words": [".", "!", "the", "photosynthesis"],
            },
            "transformer": {"max_seq_length": 20},
        },
    ),
    "pylate-attends": (
        "save_pylate",
        {
            "settings": {**_PYLATE, "attend_to_expansion_tokens": True, "query_length": 17},
            "dense": {"bias": True, "activation_function": "torch.nn.modules.activation.Tanh"},
        },
    ),
    "pylate-no-expansion": (
        "save_pylate",
        {
            "settings": {
                "model_type": "ColBERT",
                "do_query_expansion": False,
                "query_length": 9,
                "query_prefix": "query: ",
                "document_prefix": "",
                "prompts": {"query": "who ", "document": "the "},
            },
            "dense": {"use_residual": True},
        },
    ),
    "pylate-added": (
        "save_pylate",
        {
            "settings": {
                "model_type": "ColBERT",
                "query_prefix": "[Q] ",
                "document_prefix": "[D] ",
                "query_length": 12,
            },
            "added": True,
            # A residual connection without another layer looks like one of the encoder's.
            "dense": {"out_features": 32, "use_residual": True, "bias": True},
        },
    ),
    "own": (
        "save_own",
        {
            "transformer": {
                "query_expansion": {"strategy": "fixed", "length": 15},
                "document_length": 27,
            },
            "mask": {"skiplist_words": _PUNCTUATION},
            "prompts": {"query": "[unused0] ", "document": "[unused1] ", "x": "a "},
        },
    ),
    "own-at-least": (
        "save_own",
        {
            "transformer": {
                "query_expansion": {
                    "strategy": "min",
                    "length": 11,
                    "attend": True,
                    "token": "[UNK]",
                },
                "query_length": 19,
            },
            "mask": {"skiplist_words": ["the", "."], "skiplist_tasks": ["query", "document"]},
            "dense": {"bias": True, "activation_function": None, "use_residual": True},
            "similarity_fn_name": "meanmaxsim",
        },
    ),
    "own-plain": ("save_own", {"normalize": False, "prompts": {"query": "the "}}),
}
Case = tuple[Any, Any]


@pytest.fixture(scope="module", params=list(CASES))
def case(
    request: pytest.FixtureRequest,
    make_checkpoint: Callable[..., Path],
    colbert_folders: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Case]:
    """A runtime, and sentence-transformers' model of the same folder."""
    name, options = CASES[request.param]
    path = tmp_path_factory.mktemp("colbert")
    folder = getattr(colbert_folders, name)(make_checkpoint("BertModel"), path / "model", **options)
    export(folder, path / "out")
    with bertrt.load(path / "out", threads=1) as rt:
        yield rt, MultiVectorEncoder(str(folder), device="cpu")


def compare(ours: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert [vectors.shape for vectors in ours] == [vectors.shape for vectors in expected]
    for one, other in zip(ours, expected, strict=True):
        assert one.dtype == np.float32
        np.testing.assert_allclose(one, other, atol=ATOL)


def test_vectors_and_scores_are_those_of_sentence_transformers(case: Case) -> None:
    rt, reference = case
    queries = reference.encode_query(QUERIES, convert_to_numpy=True)
    documents = reference.encode_document(DOCUMENTS, convert_to_numpy=True)
    compare(rt.embed_tokens(QUERIES, kind="query"), queries)
    compare(rt.embed_tokens(DOCUMENTS, kind="document"), documents)
    # In batches of other lengths, alone, and from an iterator.
    compare(list(rt.embed_tokens(iter(QUERIES[::-1]), kind="query")), queries[::-1])
    for text, vectors in zip(DOCUMENTS[:5], documents, strict=False):
        compare([rt.embed_tokens(text, kind="document")], [vectors])

    expected = reference.similarity(queries, documents).numpy()
    assert np.ptp(expected, axis=1).min() > 0.01, "the documents' scores hardly differ"
    # Scores of vectors that are not scaled are in the thousands, where float32 has fewer decimals.
    np.testing.assert_allclose(rt.similarity(queries, documents), expected, atol=1e-4, rtol=1e-6)
    for query, scores in zip(QUERIES, expected, strict=True):
        ranked = rt.rank(query, DOCUMENTS)
        order = [entry["corpus_id"] for entry in ranked]
        # Equal but for documents that rounding alone tells apart.
        np.testing.assert_allclose(scores[order], np.sort(scores)[::-1], atol=1e-5, rtol=1e-6)
        ours = [entry["score"] for entry in ranked]
        np.testing.assert_allclose(ours, scores[order], atol=1e-4, rtol=1e-6)


def test_prompts_replace_the_marker(case: Case) -> None:
    rt, reference = case
    for kind, encode in (
        ("query", reference.encode_query),
        ("document", reference.encode_document),
    ):
        expected = encode(DOCUMENTS[:3], prompt="who ", convert_to_numpy=True)
        compare(rt.embed_tokens(DOCUMENTS[:3], kind=kind, prompt="who "), expected)
        named = encode(DOCUMENTS[:3], prompt_name="query", convert_to_numpy=True)
        compare(rt.embed_tokens(DOCUMENTS[:3], kind=kind, prompt_name="query"), named)


@pytest.fixture(scope="module")
def rt(colbert_artifact: Path) -> Iterator[Any]:
    with bertrt.load(colbert_artifact, threads=1) as runtime:
        yield runtime


def test_a_graph_of_standard_operators(
    make_checkpoint: Callable[..., Path], colbert_folders: ModuleType, tmp_path: Path, rt: Any
) -> None:
    """Also where a mask hides what a query is filled up with."""
    name, options = CASES["stanford"]
    folder = getattr(colbert_folders, name)(make_checkpoint("BertModel"), tmp_path / "m", **options)
    export(folder, tmp_path / "any", device="any")
    with bertrt.load(tmp_path / "any", threads=1) as other:
        for kind, texts in (("query", QUERIES), ("document", DOCUMENTS)):
            ours = other.embed_tokens(texts, kind=kind)
            compare(ours, rt.embed_tokens(texts, kind=kind))


def test_onnx_runtimes_cuda_graph(
    make_checkpoint: Callable[..., Path], colbert_folders: ModuleType, tmp_path: Path
) -> None:
    """It is proved on the CPU, in float32 and float16."""
    name, options = CASES["pylate-added"]
    folder = getattr(colbert_folders, name)(make_checkpoint("BertModel"), tmp_path / "m", **options)
    manifest = export(folder, tmp_path / "cuda", device="cuda", engine="ort")
    assert manifest.target == {"device": "cuda", "engine": "ort", "dtype": "float16"}
    assert manifest.parity["half"]["outputs"][0]["name"] == "token_embeddings"


def test_what_is_in_the_artifact(rt: Any) -> None:
    assert rt.info["task"] == "multi-vector-embedding"
    assert rt.info["outputs"] == ["token_embeddings"]
    facts = rt.info["multi_vector"]
    assert (facts["size"], facts["max_length"], facts["query_length"]) == (7, 29, 13)
    assert facts["expansion"]["fixed"] is True
    assert facts["modules"] == ("Dense", "Normalize")
    inputs = rt.tokenize(DOCUMENTS[:2])
    vectors = rt.run(**inputs)["token_embeddings"]
    assert vectors.shape == (*inputs["input_ids"].shape, 7)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-6)


def test_a_query_is_filled_up_and_a_document_has_none_for_punctuation(rt: Any) -> None:
    assert rt.embed_tokens("london", kind="query").shape == (13, 7)
    with_signs, without = (rt.embed_tokens(t, kind="document") for t in ("a! b.", "a b"))
    assert with_signs.shape == without.shape == (5, 7)  # [CLS] [unused1] a b [SEP]
    # The tokens of a query do not attend to what it is filled up with, which attends to them.
    alone, filled = (
        rt.embed_tokens("a", kind="document", prompt="[unused0] "),
        rt.embed_tokens("a", kind="query"),
    )
    np.testing.assert_allclose(filled[: len(alone)], alone, atol=ATOL)
    other = rt.embed_tokens("london", kind="query")
    assert np.abs(filled[-1] - other[-1]).max() > 0.01


def test_a_call_answers_lists_of_a_document_or_a_query(rt: Any) -> None:
    answer = rt("Mary lives in London.")
    assert isinstance(answer[0][0], float)
    expected = rt.embed_tokens("Mary lives in London.", kind="document")
    np.testing.assert_array_equal(np.array(answer, np.float32), expected)
    [query] = rt(["london"], kind="query")
    assert len(query) == 13


def test_texts_that_are_cut_are_counted_and_may_be_refused(rt: Any) -> None:
    before = rt.info["truncated"]
    text = "the cat sat on the mat " * 9
    assert len(rt.embed_tokens(text, kind="document")) == 29
    assert len(rt.embed_tokens(text, kind="document", max_length=10)) == 10
    assert rt.info["truncated"] == before + 2
    left = rt.embed_tokens("who " + text, kind="document", truncation_side="left")
    assert len(left) == 29
    with pytest.raises(InputError, match="and the limit is 29"):
        rt.embed_tokens(text, kind="document", truncation=False)
    for wrong in (0, "10", 1.5, True):
        with pytest.raises(InputError, match=f"max_length is {wrong!r}: give a whole number of at"):
            rt.embed_tokens(text, kind="query", max_length=wrong)
    with pytest.raises(InputError, match="max_length is 10, and this model fills queries up to 13"):
        rt.embed_tokens(text, kind="query", max_length=10)


def test_ranking_takes_the_options_of_documents(rt: Any) -> None:
    ranked = rt.rank("london", DOCUMENTS, top_k=2, return_documents=True)
    assert [set(entry) for entry in ranked] == [{"corpus_id", "score", "text"}] * 2
    assert ranked[0]["text"] == DOCUMENTS[ranked[0]["corpus_id"]]
    assert rt.rank("london", []) == []
    short = rt.rank("london", DOCUMENTS, max_length=5)
    assert short != rt.rank("london", DOCUMENTS)
    with pytest.raises(InputError, match="has no option 'activation'"):
        rt.rank("london", DOCUMENTS, activation="sigmoid")
    with pytest.raises(InputError, match="score needs an artifact for text-classification"):
        rt.score([("london", "paris")])


def test_the_batcher_gives_the_same(rt: Any) -> None:
    with rt.batcher() as batcher:
        future = batcher.submit_many("embed_tokens", DOCUMENTS, kind="document")
        query = rt.embed_tokens("london", kind="query")
        scores = batcher.submit_many("maxsim", DOCUMENTS, query=query)
        compare(future.result().answers, rt.embed_tokens(DOCUMENTS, kind="document"))
        documents = rt.embed_tokens(DOCUMENTS, kind="document")
        expected = rt.similarity(query, documents)[0]
        np.testing.assert_allclose(scores.result().answers, expected, atol=ATOL)
        np.testing.assert_allclose(bertrt.maxsim(query, documents)[0], expected, atol=ATOL)


@pytest.mark.parametrize(
    ("texts", "options", "match"),
    [
        ("a", {"kind": "passage"}, "kind is 'passage': use query or document"),
        (("a", "b"), {"kind": "query"}, "takes single texts, but got a pair"),
        ("a", {"kind": "query", "prompt_name": "z"}, "prompt_name is 'z', and this model's"),
        ([], {"kind": "query"}, "the list of texts is empty"),
    ],
)
def test_what_cannot_be_used(rt: Any, texts: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(InputError, match=match):
        rt.embed_tokens(texts, **options)


def test_other_artifacts_have_no_token_vectors(load_artifact: Callable[..., Any]) -> None:
    other = load_artifact("BertModel")
    with pytest.raises(InputError, match="embed_tokens needs an artifact for multi-vector-embed"):
        other.embed_tokens("a", kind="query")


def test_a_checkpoint_in_a_subfolder_and_the_older_spelling(
    make_checkpoint: Callable[..., Path], colbert_folders: ModuleType, tmp_path: Path
) -> None:
    """Modules are found by their names in both of sentence-transformers' packages."""
    name, options = CASES["own"]
    base = make_checkpoint("BertModel")
    new = getattr(colbert_folders, name)(base, tmp_path / "new", **options)
    export(new, tmp_path / "out-new")
    modules = json.loads((new / "modules.json").read_text())
    assert "sentence_transformers.base.modules.dense.Dense" in {m["type"] for m in modules}
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
    (new / "modules.json").write_text(json.dumps(modules))
    export(new, tmp_path / "out-old")
    with (
        bertrt.load(tmp_path / "out-new", threads=1) as one,
        bertrt.load(tmp_path / "out-old", threads=1) as other,
    ):
        assert one.info["multi_vector"] == other.info["multi_vector"]
        compare(
            one.embed_tokens(DOCUMENTS, kind="document"),
            other.embed_tokens(DOCUMENTS, kind="document"),
        )
