"""Write the checkpoint's tokenizer to the artifact: one tokenizer.json, and facts about it."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.models import BPE

from bertrt.artifact.manifest import TokenizerFacts
from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import Checkpoint
from bertrt.export.tokenizer.class_options import generic_options
from bertrt.export.tokenizer.classes import ROLES
from bertrt.export.tokenizer.markers import register_markers
from bertrt.export.tokenizer.open_tokenizer import open_tokenizer
from bertrt.export.tokenizer.settings import TokenizerSettings, read_settings
from bertrt.export.tokenizer.tokenizer_json import (
    bert_template,
    is_plain_bert,
    remove_surplus,
    split_special_tokens,
    use_one_token_type,
)
from bertrt.tokenizer import write_vocabulary

__all__ = ["write_tokenizer"]

# A model with so many more embeddings than its tokenizer has tokens is likely to be another's.
# Vocabularies are padded to multiples of 8 to 128; BERT's cased and uncased ones differ by 1,526.
_FAR_FEWER = 1000

# Sentences that a changed tokenizer splits differently: case, accents, CJK, punctuation, unknown
# words.
_GOLDEN = (
    "Plants create [MASK] through a process known as photosynthesis.",
    "Café NAÏVE, don't! 3.14%",
    "中国人 한국어 🙂 e\u0301\u200b",
    "Donaudampfschifffahrt\t(un)believable\u00a0…",
    "",
)

_log = logging.getLogger(__name__)


def write_tokenizer(
    checkpoint: Checkpoint,
    directory: Path,
    *,
    vocab_size: int,
    positions: int,
    token_types: int,
    markers: Sequence[str] = (),
    needs_markers: bool = False,
) -> TokenizerFacts:
    """Write tokenizer.json, tokenizer_config.json and vocab.txt; returns what the runtime needs.

    The tokenizer gives the ids that transformers gives with the checkpoint's files: see
    `bertrt.export.tokenizer.open_tokenizer`. The written one has no truncation and no padding.

    Args:
        checkpoint: whose tokenizer it is.
        directory: where to write.
        vocab_size, positions, token_types: how many tokens, positions and token types the model
            has embeddings for. The positions are the limit in tokens if the settings have no less.
        markers, needs_markers: what the tokenizer knows besides: see
            `bertrt.export.tokenizer.markers`.

    Raises ExportError if there is no tokenizer, if the tokenizers library has no such tokenizer, if
    it lacks a token that BERT needs, if it has more tokens than the model, and for a setting that
    cannot be honoured.
    """
    settings = read_settings(checkpoint.tokenizer_folder)
    opened = open_tokenizer(settings)
    register_markers(opened, markers, needed=needs_markers)
    one_type = not settings.returns_token_types or token_types == 1
    state, surplus = remove_surplus(_edited(settings, opened, one_type=one_type), vocab_size)
    tokenizer = Tokenizer.from_str(json.dumps(state))
    facts = _facts(settings, opened, tokenizer, positions)
    _warn(tokenizer, opened, surplus, vocab_size)
    tokenizer.save(str(directory / "tokenizer.json"))
    config = _config(state, settings, opened, facts, tokenizer, one_type=one_type)
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (directory / "tokenizer_config.json").write_text(text, encoding="utf-8")
    write_vocabulary(tokenizer, directory / "vocab.txt")
    return facts


def _edited(settings: TokenizerSettings, opened: Any, *, one_type: bool) -> dict[str, Any]:
    """Return the tokenizer.json of transformers' tokenizer, with its settings made part of it."""
    state: dict[str, Any] = json.loads(opened.backend_tokenizer.to_str())
    state |= {"truncation": None, "padding": None}
    if state["post_processor"] is None:
        cls, sep = opened.cls_token, opened.sep_token
        ids = {token: opened.backend_tokenizer.token_to_id(token) for token in (cls, sep)}
        state["post_processor"] = bert_template(cls, sep, ids)
    if one_type:
        use_one_token_type(state)
    if settings.config.get("split_special_tokens"):
        split_special_tokens(state)
    return state


def _facts(
    settings: TokenizerSettings, opened: Any, tokenizer: Tokenizer, positions: int
) -> TokenizerFacts:
    names = {role: getattr(opened, f"{role}_token") for role in ROLES}
    special = {
        role: None if name is None else tokenizer.token_to_id(name) for role, name in names.items()
    }
    for role in ("unk", "cls", "sep"):
        if special[role] is None:
            raise ExportError(
                f"the tokenizer's {role} token {names[role]!r} is not among the model's tokens: "
                f'set "{role}_token" in tokenizer_config.json to a token of its vocabulary'
            )
    added = opened.backend_tokenizer.get_added_tokens_decoder().values()
    flagged = {tokenizer.token_to_id(token.content) for token in added if token.special}
    all_special = sorted(id for id in {*flagged, *special.values()} if id is not None)
    mask = names["mask"] or "a mask"
    return TokenizerFacts(
        max_length=min(settings.max_length or positions, positions),
        padding_side="right",
        truncation_side=opened.truncation_side,
        special_ids=special,
        all_special_ids=tuple(all_special),
        clean_up_tokenization_spaces=_cleans_up(settings, tokenizer),
        golden=tuple(
            (text, tuple(tokenizer.encode(text).ids))
            for text in (*_GOLDEN, f" The {mask} of{mask} it  ")
        ),
    )


def _cleans_up(settings: TokenizerSettings, tokenizer: Tokenizer) -> bool:
    """Whether decoding removes spaces before signs.

    As in transformers 5, not where tokens have their spaces: 4 saved the setting with every one.
    """
    config = settings.config
    if isinstance(tokenizer.model, BPE):
        forced = "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output"
        return bool(config.get("clean_up_tokenization_spaces") and config.get(forced))
    return bool(config.get("clean_up_tokenization_spaces"))


def _warn(tokenizer: Tokenizer, opened: Any, surplus: list[str], size: int) -> None:
    if opened.padding_side == "left":
        _log.warning(
            "the tokenizer's padding_side is 'left', but BERT's positions are absolute: texts are "
            "padded on the right"
        )
    if surplus:
        _log.warning(
            "the tokenizer has %d tokens that no text reaches and the model has no embedding for; "
            "they are left out: %s",
            len(surplus),
            ", ".join(map(repr, surplus[:5])),
        )
    count = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
    if size - count >= _FAR_FEWER:
        _log.warning(
            "the tokenizer has %d tokens and the model's vocab_size is %d: check that it is this "
            "model's tokenizer",
            count,
            size,
        )


def _config(
    state: dict[str, Any],
    settings: TokenizerSettings,
    opened: Any,
    facts: TokenizerFacts,
    tokenizer: Tokenizer,
    *,
    one_type: bool,
) -> dict[str, Any]:
    """Return a tokenizer_config.json that gives transformers the same tokenizer."""
    # The names are transformers' own. For the id of an added token that is looked for in normalized
    # text, tokenizers 0.23 returns its normalized name, which may be another token.
    names = {
        role: None if id is None else getattr(opened, f"{role}_token")
        for role, id in facts.special_ids.items()
    }
    kept = [name for name in opened.all_special_tokens if tokenizer.token_to_id(name) is not None]
    added = json.loads(opened.backend_tokenizer.to_str())["added_tokens"]
    types = [] if one_type else ["token_type_ids"]
    config: dict[str, Any] = {
        # BERT's class builds its own parts from the vocabulary, which would replace any others.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": ["input_ids", *types, "attention_mask"],
        "model_max_length": facts.max_length,
        "padding_side": facts.padding_side,
        "truncation_side": facts.truncation_side,
        "clean_up_tokenization_spaces": facts.clean_up_tokenization_spaces,
        # A missing entry would mean BERT's default.
        **{f"{role}_token": name for role, name in names.items()},
        "additional_special_tokens": [name for name in kept if name not in names.values()],
        "added_tokens_decoder": {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"}
            for token in added
            if tokenizer.token_to_id(token["content"]) is not None
        },
    }
    if settings.config.get("split_special_tokens"):
        config["split_special_tokens"] = True
    # The generic class of transformers 4 would replace it by its default.
    config |= generic_options(state)
    if is_plain_bert(state, str(names["cls"]), str(names["sep"])):
        normalizer = state["normalizer"]
        config |= {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": normalizer["lowercase"],
            "strip_accents": normalizer["strip_accents"],
            "tokenize_chinese_chars": normalizer["handle_chinese_chars"],
        }
    return config
