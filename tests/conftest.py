"""Shared fixtures: tiny random checkpoints of every head, their artifacts, and difficult texts.

transformers writes the checkpoints, so bertrt and transformers can be compared on the same folder.
Random weights are scaled up: the logits of a newly initialized BERT are nearly equal, and a test
on them would pass with the wrong row.
"""

import os

# Before anything imports onnxruntime, triton or a hub client.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Tiny models gain nothing from threads, and idle threads spin.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

# Without a GPU, Triton's interpreter runs the kernels. triton reads this when it is imported.
if not Path("/dev/nvidiactl").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")

import contextlib
import fcntl
import hashlib
import importlib.util
import signal
import string
import sys
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

# A background job ignores SIGINT, and processes that tests start and interrupt inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs an NVIDIA GPU")


SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = """
the a an of in to and is was are it that this i you he she they we what who where when how which
not no yes on at by for with from as plants create oxygen sugar energy through process known photo
##synthesis paris london berlin france germany city capital river people person works lives john
mary smith new york google example about sports politics science good bad great movie film food
water sun light cat dog mat sat run ##ning ##s ##ed ##ing ##ly un ##able hugging face company
based president united states born 1998 2024 100 cafe naive resume
""".split()


def vocabulary(*, cased: bool = False) -> list[str]:
    """Return a small WordPiece vocabulary: each letter as a word and as a piece, and some words."""
    letters = string.ascii_lowercase + (string.ascii_uppercase if cased else "")
    signs = list("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~" + "£€中国京人一é🙂")
    words = [*WORDS, *(["Paris", "London", "John", "Mary", "The", "I"] if cased else [])]
    pieces = [*letters, *string.digits, *(f"##{c}" for c in letters + string.digits + "é")]
    return list(dict.fromkeys([*SPECIAL, *signs, *pieces, *words]))


TEXTS = [
    "Plants create oxygen through a process known as photosynthesis.",
    "John Smith works at Google in New York.",
    "paris is the capital of france",
    "PARIS IS THE CAPITAL OF FRANCE",
    "Mary lives in London, by the river.",
    "Hugging Face is a company based in New York City.",
    "",
    " ",
    "\t\n ",
    "a",
    "!",
    "...",
    "What?! No -- really; (yes).",
    "don't can't I'm you've they're",
    "café naïve résumé Ünïcödé",
    "cafe\u0301 combining",
    "中国人 in 北京",
    "日本語 한국어 العربية עברית हिन्दी",
    "🙂 emoji 👩‍👩‍👧‍👦 family 🇫🇷",
    "ﬁ ligature Ⅳ roman ½ half",
    "İstanbul ẞ ß straße",
    "zero\u200bwidth soft\u00adhyphen nbsp\u00a0space",
    "control\x00chars\x07here\x1b[0m",
    "tabs\tand\nnewlines\r\nhere",
    "1998 2024 100 3.14159 1,000,000 £5 €6",
    "http://example.com/a?b=c&d=e#f user@example.com",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "running unable workings photosynthesis",
    "[CLS] special [SEP] inside [PAD] the text [UNK]",
    "The quick brown fox jumps over the lazy dog",
    "he said \"hello\" and 'bye'",
    "snake_case camelCase kebab-case",
    "x" * 3 + " " + "y" * 3,
    "\ufeffbyte order mark",
    "\u202eright to left override",
    "e=mc^2; a<b>c; {x|y}",
    "the cat sat on the mat and the dog sat on the cat",
    "who is the president of the united states",
    "new new new new new new new new",
    "I was born in 1998 in Berlin, Germany.",
]

LABELS = {
    "BertForTokenClassification": ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "ORG"],
    "BertForSequenceClassification": ["contradiction", "neutral", "entailment"],
}


@pytest.fixture(scope="session")
def texts() -> list[str]:
    """About forty texts that are difficult for tokenizers and pipelines."""
    return list(TEXTS)


@pytest.fixture(scope="session")
def device() -> str:
    """The device to run kernels on: the GPU, or the CPU with Triton's interpreter."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A factory of folders: each is written once a run, also with several test processes."""
    base = tmp_path_factory.getbasetemp()
    # Each process of a run has its own folder within the run's.
    run = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    # Artifacts for environments without PyTorch are kept: see tests/bertrt/conftest.py.
    shared = Path(os.environ.get("BERTRT_TEST_ARTIFACTS", run / "shared"))
    shared.mkdir(parents=True, exist_ok=True)

    def make(name: str, key: object, write: Callable[[Path], Any]) -> Path:
        path = shared / f"{name}-{hashlib.sha256(repr(key).encode()).hexdigest()[:12]}"
        with _locked(path.with_suffix(".lock")):
            if not path.exists():
                write(path)
        return path

    return make


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="session")
def make_checkpoint(made_once: Callable[..., Path]) -> Callable[..., Path]:
    """A factory: class name and config changes to the folder of a checkpoint and its tokenizer."""

    def make(class_name: str, *, cased: bool = False, scale: float = 6.0, **config: Any) -> Path:
        key = ("checkpoint", cased, scale, sorted(config.items()))
        return made_once(
            class_name,
            key,
            lambda folder: _write_checkpoint(folder, class_name, cased, scale, config),
        )

    return make


def _write_checkpoint(
    folder: Path, class_name: str, cased: bool, scale: float, changes: dict[str, Any]
) -> None:
    import torch
    import transformers

    tokens = vocabulary(cased=cased)
    fields: dict[str, Any] = {
        "vocab_size": len(tokens),
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 37,
        "max_position_embeddings": 64,
        "initializer_range": 0.02 * scale,
        "is_decoder": class_name == "BertLMHeadModel",
        "eos_token_id": 3 if class_name == "BertLMHeadModel" else None,
    }
    names = LABELS.get(class_name)
    if names and "num_labels" not in changes:
        fields["id2label"] = dict(enumerate(names))
        fields["label2id"] = {name: i for i, name in enumerate(names)}
    config = transformers.BertConfig(**{**fields, **changes})
    torch.manual_seed(sum(map(ord, class_name)))
    model = getattr(transformers, class_name)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:  # biases are initialized to 0, LayerNorm weights to 1
                parameter.add_(torch.randn_like(parameter) * 0.1)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    tokenizer = transformers.BertTokenizerFast(
        str(folder / "vocab.txt"), do_lower_case=not cased, model_max_length=64
    )
    tokenizer.save_pretrained(folder)


@pytest.fixture(scope="session")
def make_artifact(
    make_checkpoint: Callable[..., Path], made_once: Callable[..., Path]
) -> Callable[..., Path]:
    """A factory: task, class name and config changes to an exported artifact's directory."""

    def write(checkpoint: Path, output: Path, **options: Any) -> None:
        from bertrt.export import export

        export(checkpoint, output, **options)

    def make(
        class_name: str,
        *,
        task: str | None = None,
        device: str = "cpu",
        engine: str | None = None,
        dtype: str | None = None,
        **changes: Any,
    ) -> Path:
        checkpoint = make_checkpoint(class_name, **changes)
        return made_once(
            class_name,
            ("artifact", task, device, engine, dtype, sorted(changes.items())),
            lambda output: write(
                checkpoint, output, task=task, device=device, engine=engine, dtype=dtype
            ),
        )

    return make


@pytest.fixture(scope="session")
def shared_traces() -> ModuleType:
    """The module tests/shared_traces.py."""
    return _load_module("shared_traces")


@pytest.fixture(scope="session", autouse=True)
def _traces_are_shared(made_once: Callable[..., Path], request: Any) -> Iterator[None]:
    """Trace models of one structure once a run: see shared_traces.py."""
    if importlib.util.find_spec("torch") is None:
        yield
        return
    from bertrt.export.tracing import trace

    shared_traces = request.getfixturevalue("shared_traces")
    with pytest.MonkeyPatch.context() as patch:
        export_graph = shared_traces.share_traces(trace.export_graph, made_once)
        patch.setattr(trace, "export_graph", export_graph)
        yield


@pytest.fixture(scope="session")
def load_artifact(make_artifact: Callable[..., Path]) -> Iterator[Callable[..., Any]]:
    """A factory: the arguments of `make_artifact` to a runtime, which is closed at the end."""
    import bertrt

    opened: dict[Path, Any] = {}

    def load(class_name: str, **changes: Any) -> Any:
        path = make_artifact(class_name, **changes)
        if path not in opened:
            opened[path] = bertrt.load(path, threads=1)
        return opened[path]

    yield load
    for runtime in opened.values():
        runtime.close()


@pytest.fixture(scope="session")
def pipeline_of(make_checkpoint: Callable[..., Path]) -> Callable[..., Any]:
    """A factory: task, class name and config changes to transformers' pipeline on the CPU."""

    def make(task: str, class_name: str, **changes: Any) -> Any:
        import transformers

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return transformers.pipeline(task, model=str(make_checkpoint(class_name, **changes)))

    return make


@pytest.fixture(scope="session")
def graphs() -> ModuleType:
    """The module tests/traced_graphs.py, loaded once a process, so each head is traced once."""
    return _load_module("traced_graphs")


@pytest.fixture(scope="session")
def colbert_folders() -> ModuleType:
    """The module tests/colbert_folders.py, which writes folders of ColBERT models."""
    return _load_module("colbert_folders")


@pytest.fixture(scope="session")
def tiny_tokenizers() -> ModuleType:
    """The module tests/tiny_tokenizers.py, which writes tokenizers of every class."""
    return _load_module("tiny_tokenizers")


@pytest.fixture(scope="session")
def colbert_artifact(
    make_checkpoint: Callable[..., Path], made_once: Callable[..., Path], request: Any
) -> Path:
    """The artifact of a ColBERT model in Stanford's form."""
    metadata = {"query_maxlen": 13, "doc_maxlen": 29, "dim": 7, "similarity": "cosine"}

    def write(output: Path) -> None:
        from bertrt.export import export

        folders = request.getfixturevalue("colbert_folders")
        checkpoint = output.with_name(f"{output.name}-checkpoint")
        export(folders.save_stanford(make_checkpoint("BertModel"), checkpoint, metadata), output)

    return made_once("colbert", sorted(metadata.items()), write)


def _load_module(name: str) -> ModuleType:
    """Load a module beside this file, once a process."""
    path = Path(__file__).parent / f"{name}.py"
    if path.stem not in sys.modules:
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module
        spec.loader.exec_module(module)
    return sys.modules[path.stem]


@pytest.fixture(scope="session")
def xlm_roberta_artifact(made_once: Callable[..., Path], tiny_tokenizers: ModuleType) -> Path:
    """The artifact of an XLM-RoBERTa's masked language model."""

    def write(output: Path) -> None:
        import transformers

        from bertrt.export import export

        checkpoint = output.with_name(f"{output.name}-checkpoint")
        tokenizer = tiny_tokenizers.build("XLMRobertaTokenizer")
        config = transformers.XLMRobertaConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=37,
            max_position_embeddings=42,
            type_vocab_size=1,
        )
        transformers.XLMRobertaForMaskedLM(config).save_pretrained(checkpoint)
        tiny_tokenizers.write(checkpoint, "XLMRobertaTokenizer", tokenizer)
        export(checkpoint, output)

    return made_once("xlm-roberta", "masked", write)
