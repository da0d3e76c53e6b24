"""Models and contenders: the vocabulary, checkpoints of the user, and the registry."""

import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from benchmarks.contenders import registry
from benchmarks.contenders.requirements import packages_missing
from benchmarks.data import models, vocabulary


def test_the_vocabulary_has_berts_size_and_covers_english_and_syllables(tmp_path: Path) -> None:
    vocabulary.write_tokenizer(tmp_path)
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == vocabulary.SIZE
    lines = (tmp_path / "vocab.txt").read_text().splitlines()
    assert len(lines) == len(set(lines)) == vocabulary.SIZE
    encoding = tokenizer.encode("Plants make oxygen [MASK] bababa.")
    assert "[UNK]" not in encoding.tokens
    assert [encoding.tokens[0], encoding.tokens[-1]] == ["[CLS]", "[SEP]"]
    assert [lines[id] for id in encoding.ids] == encoding.tokens


def test_a_users_checkpoint_gets_every_head(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_checkpoint("BertForMaskedLM")
    model = models.make_model(str(source), tmp_path)
    assert model.name == source.name
    assert model.weights == f"of {source.name}"
    assert model.trained == ("embeddings", "fill-mask")
    for task in models.TASKS:
        files = {path.name for path in model.checkpoint(task).iterdir()}
        assert {"config.json", "model.safetensors", "tokenizer.json"} <= files
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    assert model.mask == tokenizer.token_to_id("[MASK]")
    assert models.make_model(str(source), tmp_path) == model


def test_only_the_checkpoints_that_are_needed_are_made(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    source = str(make_checkpoint("BertForMaskedLM"))
    model = models.make_model(source, tmp_path, ["fill-mask"])
    folder = Path(model.folder)
    assert [path.name for path in folder.iterdir()] == ["fill-mask"]
    weights = model.checkpoint("fill-mask") / "model.safetensors"
    made = weights.stat().st_mtime_ns
    assert models.make_model(source, tmp_path, ["embeddings", "fill-mask"]) == model
    assert {path.name for path in folder.iterdir()} == {"embeddings", "fill-mask"}
    assert weights.stat().st_mtime_ns == made


def test_an_unknown_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model is called 'bert-huge': choose from minilm, "):
        models.make_model("bert-huge", tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        *(name for device in registry.DEVICES for name in registry.names_on(device)),
        *registry.TEXTS,
        *registry.RERANKERS,
    ],
)
def test_every_contender_is_complete(name: str) -> None:
    contender = registry.find(name)
    assert contender.title
    assert set(contender.tasks) <= set(models.ALL_TASKS)
    assert contender.precision in ("float32", "float16", "bfloat16", "int8")
    assert contender.environment in ("bench", "optimum")
    assert contender.packages
    assert all(map(callable, (contender.missing, contender.prepare, contender.load)))


def test_every_defined_contender_is_registered() -> None:
    folder = Path(registry.__file__).parent
    defined: list[str] = []
    for path in folder.glob("*.py"):
        module = importlib.import_module(f"benchmarks.contenders.{path.stem}")
        defined += getattr(module, "CONTENDERS", {})
    listed = registry.all_names()
    on_devices = [name for device in registry.DEVICES for name in registry.names_on(device)]
    others = (*registry.TEXTS, *registry.RERANKERS, *registry.SERVERS, *registry.JOBS)
    assert sorted(listed) == sorted([*on_devices, *others])
    assert sorted(defined) == sorted(listed)
    assert len({registry.find(name).title for name in listed}) == len(listed)


def test_finding_a_contender_imports_no_library() -> None:
    code = (
        "import importlib.util, sys\n"
        "spec = importlib.util.spec_from_file_location('benchmarks', sys.argv[1])\n"
        "sys.modules['benchmarks'] = package = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(package)\n"
        "from benchmarks.contenders import registry\n"
        "for device in registry.DEVICES:\n"
        "    for name in (*registry.names_on(device), *registry.TEXTS):\n"
        "        registry.find(name)\n"
        "libraries = ('torch', 'transformers', 'onnx', 'onnxruntime', 'bertrt', 'matplotlib')\n"
        "print(*[name for name in libraries if name in sys.modules])"
    )
    package = Path(registry.__file__).parents[1] / "__init__.py"
    command = [sys.executable, "-P", "-c", code, str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_an_unknown_contender_is_refused() -> None:
    with pytest.raises(ValueError, match="no contender is called 'tensorflow'"):
        registry.find("tensorflow")


def test_a_missing_package_is_named() -> None:
    assert packages_missing("numpy") is None
    reason = packages_missing("numpy", "no_such_package")
    assert "no_such_package is not installed" in (reason or "")
