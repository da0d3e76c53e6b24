"""Read the settings that lie beside a tokenizer's vocabulary, and refuse those it cannot honour."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertrt.errors import ExportError
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.tokenizer.classes import (
    CLASSES,
    GENERIC,
    ROLES,
    VOCABULARY_FILES,
    TokenizerClass,
    class_of_model,
)

__all__ = ["TokenizerSettings", "read_settings"]

# Classes that use any tokenizer.json as it is.
_GENERIC_CLASSES = ("PreTrainedTokenizer", "TokenizersBackend")
# Splits words with a Japanese dictionary, which a tokenizer.json cannot express.
_REFUSED_CLASSES = ("BertJapaneseTokenizer",)

_TYPES = "token_type_ids"


@dataclass(frozen=True)
class TokenizerSettings:
    """The settings of a checkpoint's tokenizer, by the order in which transformers believes them.

    Attributes:
        folder: the folder of the files.
        config: the contents of tokenizer_config.json. Without an `added_tokens_decoder` in it, the
            entries of special_tokens_map.json replace its own.
        class_name: the tokenizer's class, without the "Fast" of older versions.
        added: the ids that the files give to added tokens.
        is_named: whether a file names the class, or a model that has it.
    """

    folder: Path
    config: Mapping[str, Any]
    class_name: str
    added: Mapping[str, int]
    is_named: bool

    @property
    def has_tokenizer_json(self) -> bool:
        """Whether there is a tokenizer.json, which transformers believes before a vocabulary."""
        return (self.folder / "tokenizer.json").is_file()

    @property
    def kind(self) -> TokenizerClass:
        """What transformers knows by the class; `GENERIC` for one that it does not build."""
        return CLASSES.get(self.class_name, GENERIC)

    @property
    def returns_token_types(self) -> bool:
        """Whether the second text of a pair has token type 1 (otherwise 0, as the first).

        The generic class of transformers 5 returns no token types unless the settings name them;
        that of transformers 4 does, and so do tokenizer.json's templates.
        """
        names = self.config.get("model_input_names")
        if names is None:
            return self.kind.has_token_types
        return _TYPES in names

    @property
    def max_length(self) -> int | None:
        """The limit in tokens that the settings give; None if they give none, or an invalid one."""
        length = self.config.get("model_max_length", self.config.get("max_len"))
        # NaN, which is no number of tokens either, is not at least 1.
        if isinstance(length, bool) or not isinstance(length, (int, float)) or not length >= 1:
            return None
        return int(min(length, 10**9))

    def token(self, role: str) -> str | None:
        """Return the name that the settings give to a special token; None if they give none."""
        return _content(self.config.get(f"{role}_token"))

    def names(self, role: str) -> bool:
        """Whether the settings name a special token, or say that there is none."""
        return f"{role}_token" in self.config


def read_settings(folder: Path) -> TokenizerSettings:
    """Read tokenizer_config.json, special_tokens_map.json and added_tokens.json of a folder.

    Args:
        folder: the folder of the tokenizer's files; a config.json there may name its class.

    Raises ExportError for a damaged file, and for a class or a setting that a tokenizer.json cannot
    express.
    """
    config: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").is_file():
        config = read_json(folder / "tokenizer_config.json")
    added: dict[str, Any] = {}
    if "added_tokens_decoder" in config:
        added = _decoder_ids(config["added_tokens_decoder"])
    else:
        if (folder / "special_tokens_map.json").is_file():
            config |= read_json(folder / "special_tokens_map.json")
        if (folder / "added_tokens.json").is_file():
            added = _token_ids(read_json(folder / "added_tokens.json"))
    model_config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    model_type = model_config.get("model_type")
    name = config.get("tokenizer_class") or model_config.get("tokenizer_class")
    settings = TokenizerSettings(
        folder,
        config,
        _class_name(name, model_type, has_json=(folder / "tokenizer.json").is_file()),
        added,
        is_named=bool(name or model_type),
    )
    _check_class(settings)
    _check_types(settings)
    return settings


def _class_name(name: Any, model_type: Any, *, has_json: bool) -> str:
    """Return the tokenizer's class, without the "Fast" of older versions."""
    own = str(name or "").removesuffix("Fast")
    # A generic class cannot be built from a vocabulary alone.
    if not own or (own in _GENERIC_CLASSES and not has_json):
        return class_of_model(model_type)
    return own


def _decoder_ids(decoder: Any) -> dict[str, int]:
    try:
        return {str(token["content"]): int(id) for id, token in decoder.items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ExportError(
            f"the added_tokens_decoder of tokenizer_config.json cannot be used ({error!r}): it "
            "must map each id to the token's properties"
        ) from error


def _token_ids(added: dict[str, Any]) -> dict[str, int]:
    for name, id in added.items():
        if isinstance(id, bool) or not isinstance(id, int) or id < 0:
            raise ExportError(
                f"added_tokens.json gives the token {name!r} the id {id!r}, which is not a whole "
                "number: correct it"
            )
    return added


def _check_class(settings: TokenizerSettings) -> None:
    name, folder = settings.class_name, settings.folder
    if name in _REFUSED_CLASSES:
        raise ExportError(f"the checkpoint's tokenizer is a {name}, which bertrt cannot export")
    if settings.has_tokenizer_json:
        return
    files = settings.kind.files
    found = [file for file in VOCABULARY_FILES if (folder / file).is_file()]
    if found and name not in CLASSES:
        raise ExportError(
            f"the checkpoint's tokenizer is a {name} without a tokenizer.json: save it with "
            "transformers as a fast tokenizer"
        )
    if set(files) <= set(found):
        return
    if found and not settings.is_named:
        raise ExportError(
            f"{folder.name!r} has {' and '.join(found)}, and no file says of which tokenizer: name "
            'its class as "tokenizer_class" in tokenizer_config.json'
        )
    raise ExportError(
        f"{folder.name!r} has no tokenizer: add its tokenizer.json or {' and '.join(files)}, or "
        "say with --tokenizer where it is"
    )


def _check_types(settings: TokenizerSettings) -> None:
    """Raise ExportError for a setting whose value has the wrong type."""
    config = settings.config
    flags = ("do_lower_case", "tokenize_chinese_chars", "strip_accents", "split_special_tokens")
    expected: dict[str, Any] = {name: (bool, type(None)) for name in flags}
    expected |= {f"{role}_token": (str, dict, type(None)) for role in (*ROLES, "bos", "eos")}
    expected |= {"model_input_names": (list, type(None)), "never_split": (list, type(None))}
    for name, types in expected.items():
        if not isinstance(config.get(name), types):
            raise ExportError(
                f"{name} in the tokenizer's settings is {config[name]!r}, which has the wrong "
                "type: correct tokenizer_config.json"
            )
    side = config.get("truncation_side") or "right"
    if side not in ("left", "right"):
        raise ExportError(
            f"truncation_side in tokenizer_config.json is {side!r}: it must be 'left' or 'right'"
        )


def _content(token: Any) -> str | None:
    """Return the text of a token that is given as a string or as a dictionary of properties."""
    text = token.get("content") if isinstance(token, dict) else token
    return None if text is None else str(text)
