"""Read what sentence-transformers saves beside a model: limit, prompts, similarity.

Both spellings are read, that of version 5.4 and later, and the older one. The facts and their order
of belief are those of sentence-transformers 6.2.
"""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bertrt.artifact.manifest import EmbeddingFacts, EncoderFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.checkpoints.module_list import MODULES_FILE
from bertrt.export.checkpoints.router import ROUTER_FILE
from bertrt.export.checkpoints.stanford_colbert import METADATA_FILE
from bertrt.export.checkpoints.vector_modules import WEIGHT_FILES
from bertrt.export.vector_modules import VectorModules
from bertrt.heads.similarity import SIMILARITIES
from bertrt.tokenizer import Tokenizer

__all__ = [
    "SETTINGS_FILE",
    "check_case",
    "read_default_prompt",
    "read_embedding",
    "read_encoder",
    "read_encoder_settings",
    "read_max_seq_length",
    "read_prompts",
    "read_transformer_settings",
    "settings_files",
]

SETTINGS_FILE = "config_sentence_transformers.json"
# The settings of the transformer module, under the names that versions gave to the file.
_TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

# A module that takes texts has a tokenizer of its own.
_MODULE_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "idf.json")

# Settings of the transformer module that change how texts are tokenized.
_TOKENIZING = ("query_length", "document_length", "query_expansion", "processing_kwargs")

# The shortest limit: [CLS], a token and [SEP].
_LEAST = 3

# Prompts that every model has, empty unless its settings say otherwise.
_PROMPTS = {"query": "", "document": ""}


def settings_files(names: Collection[str]) -> list[str]:
    """Return which of a model's files hold settings of an encoder's library, or a module.

    Of a module's weights in several formats the best is returned.
    """
    known = (MODULES_FILE, ROUTER_FILE, SETTINGS_FILE, METADATA_FILE, *_TRANSFORMER_FILES)
    found = [name for name in names if name in known]
    for config in sorted(names):
        # A Router's folders begin with the route: query_0_SparseStaticEmbedding.
        match = re.fullmatch(r"((?:\w+_)?\d+_\w+)/config\.json", config)
        if match is not None and not match[1].endswith("Transformer"):
            weights = [f"{match[1]}/{name}" for name in WEIGHT_FILES]
            tokenizer = [f"{match[1]}/{name}" for name in _MODULE_TOKENIZER_FILES]
            found += [config, *[name for name in weights if name in names][:1]]
            found += [name for name in tokenizer if name in names]
    return found


def read_embedding(
    folder: Path, transformer_folder: Path, tokenizer: Tokenizer, vectors: VectorModules
) -> EmbeddingFacts:
    """Return how a model makes its vectors.

    Args:
        folder: the checkpoint's folder.
        transformer_folder: the folder of its transformer, the same or a subfolder.
        tokenizer: its tokenizer, whose limit no text exceeds.
        vectors: its modules.

    Raises ExportError for a damaged file, and for a setting that bertrt does not have.
    """
    encoder = read_encoder(folder, transformer_folder, tokenizer, similarity="cosine")
    return EmbeddingFacts(
        **vars(encoder),
        pooling=vectors.pooling,
        include_prompt=vectors.include_prompt,
        modules=vectors.names,
        size=vectors.size,
        dimensions=_dimensions(read_encoder_settings(folder)),
    )


def read_encoder_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of a model with a modules.json; empty without one."""
    if (folder / MODULES_FILE).is_file() and (folder / SETTINGS_FILE).is_file():
        return read_json(folder / SETTINGS_FILE)
    return {}


def read_encoder(
    folder: Path, transformer_folder: Path, tokenizer: Tokenizer, *, similarity: str
) -> EncoderFacts:
    """Return how a model takes texts, and compares their vectors.

    Args:
        folder: the checkpoint's folder.
        transformer_folder: the folder of its transformer, the same or a subfolder.
        tokenizer: its tokenizer, whose limit no text exceeds.
        similarity: the function of a model that names none.

    Raises ExportError for a damaged file, and for a setting that bertrt does not have.
    """
    saved = (folder / MODULES_FILE).is_file()
    settings = read_encoder_settings(folder)
    transformer = read_transformer_settings(transformer_folder) if saved else {}
    check_case(transformer, tokenizer)
    other = next((name for name in _TOKENIZING if transformer.get(name)), None)
    if other is not None:
        raise ExportError(
            f"sentence-transformers' settings give {other} {transformer[other]!r}, and bertrt has "
            "one max_seq_length for all texts: remove it"
        )
    prompts = {**_PROMPTS, **read_prompts(settings)}
    return EncoderFacts(
        max_length=min(_max_seq_length(transformer) or tokenizer.max_length, tokenizer.max_length),
        truncation=saved,
        prompts=prompts,
        default_prompt_name=read_default_prompt(settings, prompts),
        similarity=_similarity(settings, similarity),
    )


def read_max_seq_length(folder: Path) -> int | None:
    """Return the limit in tokens that a transformer's settings give; None without one.

    Raises ExportError unless it is a whole number of at least 3.
    """
    return _max_seq_length(read_transformer_settings(folder))


def read_transformer_settings(folder: Path) -> dict[str, Any]:
    """Return the settings of the transformer module; empty without a file of them."""
    for name in _TRANSFORMER_FILES:
        if (folder / name).is_file():
            return read_json(folder / name)
    return {}


def check_case(transformer: Mapping[str, Any], tokenizer: Tokenizer) -> None:
    """Raise ExportError if a transformer's settings lower-case and its tokenizer does not."""
    lowers = tokenizer.encode("ABC").ids == tokenizer.encode("abc").ids
    if transformer.get("do_lower_case") and not lowers:
        raise ExportError(
            "sentence-transformers' settings say do_lower_case, and the tokenizer keeps capitals: "
            "set do_lower_case in tokenizer_config.json to true, and strip_accents to false"
        )


def _max_seq_length(transformer: Mapping[str, Any]) -> int | None:
    length = transformer.get("max_seq_length")
    if length is None:
        return None
    if isinstance(length, bool) or not isinstance(length, int) or length < _LEAST:
        raise ExportError(
            f"max_seq_length is {length!r}: it must be a whole number of at least {_LEAST}"
        )
    return length


def _dimensions(settings: Mapping[str, Any]) -> int | None:
    size = settings.get("truncate_dim")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ExportError(
            f"truncate_dim in {SETTINGS_FILE} is {size!r}: it must be a whole number above 0"
        )
    return size


def read_prompts(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return the prompts by name; raises ExportError unless they are strings."""
    prompts = settings.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(
        isinstance(prompt, (str, type(None))) for prompt in prompts.values()
    ):
        raise ExportError(
            f"prompts in {SETTINGS_FILE} are {prompts!r}: it must map names to strings"
        )
    return {name: prompt or "" for name, prompt in prompts.items()}


def read_default_prompt(settings: Mapping[str, Any], prompts: Mapping[str, str]) -> str | None:
    """Return the default prompt's name, if any; raises ExportError unless it is among them."""
    name = settings.get("default_prompt_name")
    if name is not None and not (isinstance(name, str) and name in prompts):
        raise ExportError(
            f"default_prompt_name in {SETTINGS_FILE} is {name!r}, and its prompts are "
            f"{', '.join(prompts)}: correct it"
        )
    return name


def _similarity(settings: Mapping[str, Any], default: str) -> str:
    name = settings.get("similarity_fn_name") or default
    if str(name) not in SIMILARITIES:
        raise ExportError(
            f"similarity_fn_name in {SETTINGS_FILE} is {name!r}: bertrt has "
            f"{', '.join(SIMILARITIES)}"
        )
    return str(name)
