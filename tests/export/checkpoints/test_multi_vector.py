"""ColBERT folders: which are recognized, what is read of them, and what is refused."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from bertrt.errors import ExportError
from bertrt.export import export
from bertrt.export.checkpoints.checkpoint import open_checkpoint
from bertrt.export.checkpoints.multi_vector import is_multi_vector, read_settings
from bertrt.export.checkpoints.saved_task import saved_task

SETTINGS = "config_sentence_transformers.json"
TASK = "multi-vector-embedding"
Folders = dict[str, Path]


@pytest.fixture(scope="module")
def saved(
    make_checkpoint: Callable[..., Path],
    colbert_folders: ModuleType,
    tmp_path_factory: pytest.TempPathFactory,
) -> Folders:
    """A folder of each form."""
    base, path = make_checkpoint("BertModel"), tmp_path_factory.mktemp("colbert")
    settings = {"model_type": "ColBERT", "query_prefix": "[unused0] ", "query_length": 9}
    return {
        "stanford": colbert_folders.save_stanford(base, path / "stanford", {"dim": 7}),
        "pylate": colbert_folders.save_pylate(base, path / "pylate", settings),
        "own": colbert_folders.save_own(base, path / "own", mask={"skiplist_words": ["the"]}),
    }


@pytest.fixture
def copy(saved: Folders, tmp_path: Path) -> Callable[..., Path]:
    """A factory: a form, a file and changes of its JSON to a folder with these changes."""

    def make(form: str, file: str = "", **changes: Any) -> Path:
        folder = tmp_path / "model"
        shutil.copytree(saved[form], folder)
        if file:
            contents = json.loads((folder / file).read_text())
            (folder / file).write_text(json.dumps({**contents, **changes}))
        return folder

    return make


def config_of(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "config.json").read_text()))


def test_which_folders_are_recognized(
    saved: Folders, copy: Callable[..., Path], make_checkpoint: Callable[..., Path]
) -> None:
    for folder in saved.values():
        assert saved_task(folder, config_of(folder)) == TASK
    plain = make_checkpoint("BertModel")
    assert saved_task(plain, config_of(plain)) is None
    # Older versions of PyLate write no model type.
    folder = copy("pylate", SETTINGS, model_type=None)
    assert is_multi_vector(folder, config_of(folder))
    (folder / SETTINGS).write_text("{}")
    assert not is_multi_vector(folder, config_of(folder))


def test_pylates_defaults(copy: Callable[..., Path]) -> None:
    folder = copy("pylate", SETTINGS, query_length=None)
    settings = read_settings(open_checkpoint(str(folder)))
    assert settings.expansion is not None
    assert (settings.expansion.length, settings.expansion.fixed) == (32, True)
    assert not settings.expansion.attend
    assert len(settings.skipped_words["document"]) == 32
    assert settings.prompts == {"query": "[unused0] ", "document": ""}


def test_words_that_are_no_token_are_not_skipped(
    copy: Callable[..., Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    words = [".", "photosynthesis", "the"]
    folder = copy("pylate", SETTINGS, skiplist_words=words)
    manifest = export(folder, tmp_path / "out")
    assert manifest.multi_vector is not None
    tokens = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    expected = sorted(tokens.index(word) for word in (".", "the"))
    assert list(manifest.multi_vector.skipped_ids["document"]) == expected
    assert "no single token are not skipped: photosynthesis (1 in all)" in caplog.text


@pytest.mark.parametrize(
    ("form", "file", "changes", "match"),
    [
        ("stanford", "artifact.metadata", {"similarity": "l2"}, "similarity in .* is 'l2', and be"),
        ("stanford", "artifact.metadata", {"interaction": "flipr"}, "interaction in .* 'flipr'"),
        ("stanford", "artifact.metadata", {"query_maxlen": "32"}, "query_maxlen in .* is '32': it"),
        ("stanford", "artifact.metadata", {"query_maxlen": 65}, "filled up to 65 tokens, and the"),
        ("stanford", "artifact.metadata", {"doc_maxlen": True}, "doc_maxlen in .* is True: it mu"),
        ("stanford", "artifact.metadata", {"mask_punctuation": 1}, "mask_punctuation in .* is 1:"),
        ("stanford", "artifact.metadata", {"dim": 128}, "dim in .* is 128, and linear.weight giv"),
        (
            "stanford",
            "artifact.metadata",
            {"query_token_id": "[unused9]"},
            r"the vocabulary has no '\[unused9\]', which marks queries or documents",
        ),
        ("pylate", SETTINGS, {"similarity_fn_name": "xtr"}, "similarity_fn_name in .* is 'xtr'"),
        ("pylate", SETTINGS, {"query_length": 2}, "query_length in .* is 2: it must be a whole"),
        ("pylate", SETTINGS, {"skiplist_words": "!"}, "skiplist_words are '!': it must be a list"),
        ("pylate", SETTINGS, {"query_prefix": 3}, "query_prefix in .* is 3: give a string"),
        ("pylate", SETTINGS, {"do_query_expansion": "no"}, "do_query_expansion in .* is 'no'"),
        (
            "pylate",
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "max", "length": 9}},
            "strategy in query_expansion is 'max': bertrt has",
        ),
        (
            "pylate",
            "sentence_bert_config.json",
            {"query_expansion": {"strategy": "fixed", "length": 9, "token": "zzz"}},
            "filled up with the token 'zzz', which the vocabulary lacks",
        ),
        *(
            (
                "own",
                "2_MultiVectorMask/config.json",
                {"skiplist_tasks": tasks},
                "skiplist_tasks of the MultiVectorMask are",
            )
            for tasks in (3, {"document": True}, [["document"]], [None])
        ),
        ("pylate", "1_Dense/config.json", {"in_features": 31}, "has 31 in_features and 7 out_fea"),
        # More weights than any memory holds: they are compared before they are made.
        (
            "pylate",
            "1_Dense/config.json",
            {"out_features": 2**40},
            r"linear.weight in 1_Dense/.* has shape \[7, 32\], and config.json says",
        ),
        (
            "pylate",
            "1_Dense/config.json",
            {"module_input_name": "logits"},
            "module_input_name in 1_Dense/config.json is 'logits'",
        ),
    ],
)
def test_refused(
    copy: Callable[..., Path],
    tmp_path: Path,
    form: str,
    file: str,
    changes: dict[str, Any],
    match: str,
) -> None:
    with pytest.raises(ExportError, match=match):
        export(copy(form, file, **changes), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_damaged_files_and_layers_that_do_not_fit(
    copy: Callable[..., Path], tmp_path: Path
) -> None:
    folder = copy("stanford")
    (folder / "artifact.metadata").write_text("{")
    with pytest.raises(ExportError, match=r"artifact\.metadata cannot be read"):
        export(folder, tmp_path / "out")
    (folder / "artifact.metadata").unlink()
    weights = load_file(folder / "model.safetensors")
    layer = weights.pop("linear.weight")
    for changed, match in (
        ({}, "is HF_ColBERT, and the checkpoint has no linear.weight"),
        (
            {"linear.weight": layer[:, 1:].clone()},
            r"linear.weight has shape \[7, 31\], and the enc",
        ),
    ):
        save_file({**weights, **changed}, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ExportError, match=match):
            export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_modules_that_bertrt_lacks(copy: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy("pylate")
    modules = json.loads((folder / "modules.json").read_text())
    name = "sentence_transformers.multi_vector_encoder.modules.HierarchicalTokenPooling"
    more = [*modules, {"idx": 2, "name": "2", "path": "2_Pooling", "type": name}]
    (folder / "modules.json").write_text(json.dumps(more))
    with pytest.raises(ExportError, match="has a HierarchicalTokenPooling module, and bertrt exp"):
        export(folder, tmp_path / "out")
    (folder / "modules.json").write_text(json.dumps(modules[:1]))
    with pytest.raises(ExportError, match=r"modules\.json has no Dense module"):
        export(folder, tmp_path / "out")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"device": "cuda"}, "the Triton engine leaves out .* with --device cuda --engine ort"),
        ({"output_hidden_states": True}, "multi-vector-embedding has no hidden states"),
        ({"with_tokenizer": True}, "--with-tokenizer is for"),
    ],
)
def test_targets_that_it_cannot_have(
    saved: Folders, tmp_path: Path, options: dict[str, Any], match: str
) -> None:
    with pytest.raises(ExportError, match=match):
        export(saved["stanford"], tmp_path / "out", **options)


def test_another_model_is_no_multi_vector_model(
    make_checkpoint: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="the checkpoint is no multi-vector model: its archit"):
        export(make_checkpoint("BertModel"), tmp_path / "out", task=TASK)
