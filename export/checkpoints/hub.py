"""Checkpoints of the Hugging Face hub: the needed files, and no others, in the hub's own cache."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from bertrt.errors import ExportError
from bertrt.export.checkpoints.config_check import check_config
from bertrt.export.checkpoints.folder import CONFIG_FILES, find_in_folder
from bertrt.export.checkpoints.formats.find import find_weights, read_json

__all__ = ["fetch", "looks_like_path"]

SMALL_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)

# Seconds to wait for the hub's first answer.
_TIMEOUT = 10.0

_log = logging.getLogger(__name__)


def looks_like_path(model: str) -> bool:
    """Whether a string can only be meant as a path: hub ids are `name` or `owner/name`."""
    return model.startswith(("/", ".", "~")) or model.count("/") > 1 or "\\" in model


def fetch(model: str, *, revision: str | None, offline: bool) -> tuple[Path, str]:
    """Have a hub checkpoint's files in the cache: its folder there, and the commit hash.

    Only the config, the tokenizer's files and the weights of one format are fetched, and the
    weights only when the config is a BERT's. Offline, or when the hub cannot be reached, the
    cache is used as it is.

    Raises ExportError when the hub has no such model or revision, refuses it, or cannot be
    reached and the cache lacks it.
    """
    at = model if revision is None else f"{model} at revision {revision!r}"
    unreachable = None
    names: set[str] = set()
    offline = offline or constants.HF_HUB_OFFLINE
    if not offline:
        try:
            names = _listed(model, revision)
        except ConnectionError as error:
            unreachable = str(error)
            _log.warning("the hub cannot be reached (%s): the cache is used", unreachable)
    with _explained(model, revision, at, unreachable):
        cached = offline or unreachable is not None
        config = _config(model, names, revision, cached, at)
        check_config(read_json(config))
        folder = config.parent
        # The cache keeps each commit in a folder of its hash.
        commit = folder.name
        if not cached:
            _fetch_rest(model, names, folder, commit)
        elif not _has_weights(folder):
            raise ExportError(f"{at} is in the cache without its weights: export it once online")
        return folder, commit


def _listed(model: str, revision: str | None) -> set[str]:
    """The names of a hub model's files; raises ConnectionError when the hub does not answer."""
    try:
        # One request without retries: whoever has no network should not wait for the cache.
        info = HfApi().model_info(model, revision=revision, timeout=_TIMEOUT)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        with _explained(model, revision, model, None):
            raise error
    except Exception as error:
        # The two HTTP clients that huggingface_hub has used share no base class.
        raise ConnectionError(_first_line(error)) from error
    return {sibling.rfilename for sibling in info.siblings or []}


def _config(model: str, names: set[str], revision: str | None, cached: bool, at: str) -> Path:
    """The config's path in the cache; without a listing of the hub's files, the cache's own."""
    wanted = [name for name in CONFIG_FILES if name in names or not names]
    if not wanted:
        raise ExportError(f"{at} has no {' or '.join(CONFIG_FILES)} on the hub")
    for name in wanted[:-1]:
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(model, name, revision=revision, local_files_only=cached))
    return Path(hf_hub_download(model, wanted[-1], revision=revision, local_files_only=cached))


def _fetch_rest(model: str, names: set[str], folder: Path, commit: str) -> None:
    """Have the tokenizer's files and the weights in the cache, beside the config."""

    def get(name: str) -> Path:
        return Path(hf_hub_download(model, name, revision=commit))

    weights = find_weights(names, get, model)
    for name in (*SMALL_FILES, *weights.files):
        if name in names:
            get(name)


def _has_weights(folder: Path) -> bool:
    try:
        find_in_folder(folder)
    except ExportError:
        return False
    return True


@contextlib.contextmanager
def _explained(
    model: str, revision: str | None, at: str, unreachable: str | None
) -> Iterator[None]:
    """Turn what the hub's client raises into ExportError with one sentence."""
    try:
        yield
    except ExportError:
        raise
    except HFValidationError as error:
        raise ExportError(
            f"{model!r} is neither a folder nor a hub id such as 'google-bert/bert-base-uncased'"
        ) from error
    except GatedRepoError as error:
        raise ExportError(
            f"{model} is gated: ask for access on its page, then log in with 'hf auth login'"
        ) from error
    except RepositoryNotFoundError as error:
        raise ExportError(
            f"{model!r} is neither a folder here nor a model on the hub (a private one needs "
            "'hf auth login')"
        ) from error
    except RevisionNotFoundError as error:
        raise ExportError(f"{model} has no revision {revision!r} on the hub") from error
    except LocalEntryNotFoundError as error:
        if unreachable is None:
            raise ExportError(
                f"{at} is not in the cache: export it once without --offline and HF_HUB_OFFLINE"
            ) from error
        raise ExportError(
            f"{at} is not in the cache, and the hub at {constants.ENDPOINT} cannot be reached "
            f"({unreachable}): check the network"
        ) from error
    except Exception as error:
        # An HTTP client's own error, a full disk, a damaged cache.
        raise ExportError(f"{at} cannot be fetched from the hub: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
