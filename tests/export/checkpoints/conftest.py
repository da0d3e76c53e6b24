"""Fixtures for tests of checkpoints: those of other frameworks, and tiny ones of other encoders."""

import importlib.util
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[2] / "golden" / "frameworks"


@pytest.fixture(scope="session")
def unpacked(made_once: Callable[..., Path]) -> Path:
    """The folder of all cases: those in the repository, or those that `make frameworks` made."""
    if "FRAMEWORK_CASES" in os.environ:
        return Path(os.environ["FRAMEWORK_CASES"])

    def write(folder: Path) -> None:
        for path in sorted(GOLDEN.glob("*.tar.xz")):
            with tarfile.open(path) as archive:
                archive.extractall(folder, filter="data")

    return made_once("framework-cases", "golden", write)


@pytest.fixture
def case(unpacked: Path, tmp_path: Path) -> Callable[[str], Path]:
    """A factory of copies of a case's folder, by its name."""
    return lambda name: Path(shutil.copytree(unpacked / name, tmp_path / name))


@pytest.fixture(scope="session")
def bundles() -> ModuleType:
    """The module bundle_writer.py."""
    path = Path(__file__).parent / "bundle_writer.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # its dataclasses look their module up
    spec.loader.exec_module(module)
    return module


# How transformers' classes of a model type begin, and fields of its config. Positions of a text
# start after the padding token's id in those that have one.
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "roberta": ("Roberta", {"max_position_embeddings": 42, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", {"max_position_embeddings": 42, "pad_token_id": 1}),
    "distilbert": ("DistilBert", {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 37}),
    "electra": ("Electra", {"embedding_size": 16}),
    "mpnet": ("MPNet", {"max_position_embeddings": 42}),
    "albert": ("Albert", {"embedding_size": 16, "num_hidden_layers": 3, "num_hidden_groups": 2}),
}
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 37,
}
WORDS = "the a cat sat on mat dog ran in big city and of to we you who is was lives london".split()
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


@pytest.fixture(scope="session")
def make_encoder(made_once: Callable[..., Path]) -> Callable[..., Path]:
    """A factory: a model type, the end of the class's name and config changes to a checkpoint."""

    def make(model_type: str, head: str, **changes: Any) -> Path:
        return made_once(
            f"{model_type}-{head}",
            ("checkpoints", sorted(changes.items())),
            lambda folder: _write_encoder(folder, model_type, head, changes),
        )

    return make


def _write_encoder(folder: Path, model_type: str, head: str, changes: dict[str, Any]) -> None:
    import torch
    import transformers

    stem, own = ENCODERS[model_type]
    sizes = {} if model_type == "distilbert" else SIZES
    fields = {
        "vocab_size": _write_tokenizer(folder),
        "max_position_embeddings": 40,
        "pad_token_id": 1,
        "num_labels": 3,
        **sizes,
        **own,
        **changes,
    }
    torch.manual_seed(len(model_type) + len(head))
    model = getattr(transformers, stem + head)(getattr(transformers, f"{stem}Config")(**fields))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
    model.save_pretrained(folder)


def _write_tokenizer(folder: Path) -> int:
    """Write a WordPiece tokenizer with RoBERTa's special tokens; return its number of tokens."""
    import tokenizers
    import transformers

    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*SPECIAL, *WORDS, *letters[1:], *(f"##{letter}" for letter in letters), *".!?,"]
    ids = {token: index for index, token in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(ids, unk_token="<unk>"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=40,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
    ).save_pretrained(folder)
    return len(ids)
