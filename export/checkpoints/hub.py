"""Download the needed files of a checkpoint from the Hugging Face hub to the hub's own cache."""

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
from bertrt.export.checkpoints.error_reason import error_reason
from bertrt.export.checkpoints.folder import CONFIG_FILES, find_in_folder
from bertrt.export.checkpoints.formats.find import find_weights
from bertrt.export.checkpoints.json_file import read_json

__all__ = ["fetch", "looks_like_path"]

_TOKENIZER_FILES = (
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)

# Seconds to wait for the hub's first response.
_TIMEOUT = 10.0

_log = logging.getLogger(__name__)


def looks_like_path(model: str) -> bool:
    """Whether a string can only be a path: hub ids are `name` or `owner/name`."""
    return model.startswith(("/", ".", "~")) or model.count("/") > 1 or "\\" in model


def fetch(model: str, *, revision: str | None, offline: bool) -> tuple[Path, str]:
    """Download a checkpoint's files to the cache; returns its folder there and the commit hash.

    Only the config, the tokenizer's files and the weights in one format are downloaded, and the
    weights only if the config is a BERT's. Offline, or if the hub cannot be reached, the files in
    the cache are used.

    Raises ExportError if the hub has no such model or revision, denies access, or cannot be reached
    and the cache lacks the model.
    """
    at = model if revision is None else f"{model} at revision {revision!r}"
    unreachable = None
    names: set[str] = set()
    offline = offline or constants.HF_HUB_OFFLINE
    if not offline:
        try:
            names = _file_names(model, revision)
        except ConnectionError as error:
            unreachable = str(error)
            _log.warning("the hub cannot be reached (%s): using the cache", unreachable)
    with _as_export_error(model, revision, at, unreachable):
        cached = offline or unreachable is not None
        config = _config(model, names, revision, cached, at)
        check_config(read_json(config))
        folder = config.parent
        # The cache has a folder for each commit, named by its hash.
        commit = folder.name
        if not cached:
            _fetch_rest(model, names, folder, commit)
        elif not _has_weights(folder):
            raise ExportError(
                f"{at} is in the cache, but its weights are not: export it once online"
            )
        return folder, commit


def _file_names(model: str, revision: str | None) -> set[str]:
    """Return the names of a hub model's files; raises ConnectionError if the hub is unreachable."""
    try:
        # One request without retries, so that the cache is used quickly without a network.
        info = HfApi().model_info(model, revision=revision, timeout=_TIMEOUT)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        with _as_export_error(model, revision, model, None):
            raise error
    except Exception as error:
        # The errors of the two HTTP clients that huggingface_hub has used have no common class.
        raise ConnectionError(error_reason(error)) from error
    return {sibling.rfilename for sibling in info.siblings or []}


def _config(model: str, names: set[str], revision: str | None, cached: bool, at: str) -> Path:
    """Return the config's path in the cache, after downloading it unless `cached`.

    `names` are the hub's file names; without them each name of a config is tried.
    """
    candidates = [name for name in CONFIG_FILES if name in names or not names]
    if not candidates:
        raise ExportError(f"{at} has no {' or '.join(CONFIG_FILES)} on the hub")
    for name in candidates[:-1]:
        with contextlib.suppress(LocalEntryNotFoundError):
            return Path(hf_hub_download(model, name, revision=revision, local_files_only=cached))
    return Path(hf_hub_download(model, candidates[-1], revision=revision, local_files_only=cached))


def _fetch_rest(model: str, names: set[str], folder: Path, commit: str) -> None:
    """Download the tokenizer's files and the weights."""

    def get(name: str) -> Path:
        return Path(hf_hub_download(model, name, revision=commit))

    files = find_weights(names, get, model)
    for name in (*_TOKENIZER_FILES, *files.names):
        if name in names:
            get(name)


def _has_weights(folder: Path) -> bool:
    try:
        find_in_folder(folder)
    except ExportError:
        return False
    return True


@contextlib.contextmanager
def _as_export_error(
    model: str, revision: str | None, at: str, unreachable: str | None
) -> Iterator[None]:
    """Turn errors of the hub's client into ExportError with one sentence."""
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
            f"{model!r} is neither a local folder nor a model on the hub (a private one needs "
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
        raise ExportError(f"{at} cannot be downloaded: {error_reason(error)}") from error
