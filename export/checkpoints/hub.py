"""Download the needed files of a checkpoint from the Hugging Face hub to the hub's own cache."""

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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
from bertrt.export.checkpoints.folder_kind import check_adapter, where_it_lies
from bertrt.export.checkpoints.formats.find import find_weights
from bertrt.export.checkpoints.json_file import read_json
from bertrt.export.checkpoints.module_list import MODULES_FILE
from bertrt.export.checkpoints.sentence_transformers import settings_files
from bertrt.export.checkpoints.transformer_subfolder import transformer_subfolder

__all__ = ["VOCABULARIES", "fetch", "fetch_tokenizer", "looks_like_path"]

# Each of these is a tokenizer; the others belong to one.
VOCABULARIES = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
)
_TOKENIZER_FILES = (
    *VOCABULARIES,
    "merges.txt",
    "tokenizer_config.json",
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

    Only the config, the tokenizer's files, the weights in one format and what
    sentence-transformers saved are downloaded, and the weights only if the config is a BERT's.
    Offline, or if the hub cannot be reached, the files in the cache are used.

    Raises ExportError if the hub has no such model or revision, if it is an adapter or another kind
    of model, if the hub denies access, or cannot be reached and the cache lacks the model.
    """
    with _opened(model, revision, offline) as root:
        check_adapter(root.names, root.get, model)
        subfolder = _transformer_subfolder(root)
        files = root.within(subfolder)
        config = _first(files, CONFIG_FILES)
        if config is None:
            advice = where_it_lies(files.names) or "it is no checkpoint of transformers"
            raise ExportError(f"{files.at} has no {' or '.join(CONFIG_FILES)} on the hub: {advice}")
        check_config(read_json(config))
        # The cache has a folder for each commit, named by its hash.
        folder = config.parents[len(Path(subfolder).parts)]
        commit = folder.name
        if not files.cached:
            root, files = (replace(part, revision=commit) for part in (root, files))
            weights = find_weights(files.names, files.get, model)
            settings = ("generation_config.json", *_TOKENIZER_FILES, *settings_files(files.names))
            files.get_all((*settings, *weights.names))
            root.get_all(settings_files(root.names))
        elif not _has_weights(config.parent):
            raise ExportError(
                f"{files.at} is in the cache, but its weights are not: export it once online"
            )
        return folder, commit


def fetch_tokenizer(model: str, *, offline: bool) -> tuple[Path, str]:
    """Download a tokenizer's files and the config beside them, from the main branch.

    Returns the folder in the cache and the commit hash. Offline, or if the hub cannot be reached,
    the files in the cache are used.

    Raises ExportError as `fetch` does, and if the model has no tokenizer.
    """
    with _opened(model, None, offline) as files:
        found = _first(files, VOCABULARIES)
        if found is None:
            raise ExportError(f"{files.at} has no {' or '.join(VOCABULARIES)} on the hub")
        if not files.cached:
            replace(files, revision=found.parent.name).get_all((*_TOKENIZER_FILES, *CONFIG_FILES))
        return found.parent, found.parent.name


def _transformer_subfolder(files: "_HubFiles") -> str:
    """Return the subfolder that holds the transformer; "" if it is the model's own folder."""
    names: Collection[str] = files.names
    if files.cached:
        with contextlib.suppress(LocalEntryNotFoundError):
            files.get(MODULES_FILE)
            names = [MODULES_FILE]
    return transformer_subfolder(names, files.get)


@dataclass(frozen=True)
class _HubFiles:
    """The files of a hub model, or of one of its subfolders.

    Attributes:
        model, revision: the hub id, and a branch, tag or commit; None for the main branch.
        cached: whether only the cache is used.
        names: the names of all files; empty if only the cache is used.
        subfolder: where they are, with a slash at its end; "" for the model's own folder.
    """

    model: str
    revision: str | None
    cached: bool
    names: frozenset[str]
    subfolder: str = ""

    def within(self, subfolder: str) -> "_HubFiles":
        """Return the files in a subfolder; "" stands for the model's own."""
        if not subfolder:
            return self
        start = f"{subfolder}/"
        names = {name.removeprefix(start) for name in self.names if name.startswith(start)}
        return replace(self, names=frozenset(names), subfolder=start)

    @property
    def at(self) -> str:
        """The model and its revision, for errors."""
        return _at(self.model, self.revision)

    def get(self, name: str) -> Path:
        """Return a file's path in the cache, after downloading it unless it must be there."""
        return Path(
            hf_hub_download(
                self.model,
                f"{self.subfolder}{name}",
                revision=self.revision,
                local_files_only=self.cached,
            )
        )

    def get_all(self, names: Iterable[str]) -> None:
        """Download those of some files that the model has."""
        for name in names:
            if name in self.names:
                self.get(name)


def _at(model: str, revision: str | None) -> str:
    return model if revision is None else f"{model} at revision {revision!r}"


@contextlib.contextmanager
def _opened(model: str, revision: str | None, offline: bool) -> Iterator[_HubFiles]:
    """List a model's files, and turn errors of the hub's client into ExportError."""
    unreachable = None
    names: frozenset[str] = frozenset()
    offline = offline or constants.HF_HUB_OFFLINE
    if not offline:
        try:
            names = _file_names(model, revision)
        except ConnectionError as error:
            unreachable = str(error)
            _log.warning("the hub cannot be reached (%s): using the cache", unreachable)
    cached = offline or unreachable is not None
    with _as_export_error(model, revision, unreachable):
        yield _HubFiles(model, revision, cached, names)


def _file_names(model: str, revision: str | None) -> frozenset[str]:
    """Return the names of a hub model's files; raises ConnectionError if the hub is unreachable."""
    try:
        # One request without retries, so that the cache is used quickly without a network.
        info = HfApi().model_info(model, revision=revision, timeout=_TIMEOUT)
    except (HFValidationError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        with _as_export_error(model, revision, None):
            raise error
    except Exception as error:
        # The errors of the two HTTP clients that huggingface_hub has used have no common class.
        raise ConnectionError(error_reason(error)) from error
    return frozenset(sibling.rfilename for sibling in info.siblings or [])


def _first(files: _HubFiles, candidates: Sequence[str]) -> Path | None:
    """Return the path of the first of some files that the model has; None if it has none.

    In the cache, whose files are not listed, each is tried; it is an error if none is there.
    """
    if not files.cached:
        return next((files.get(name) for name in candidates if name in files.names), None)
    for name in candidates[:-1]:
        with contextlib.suppress(LocalEntryNotFoundError):
            return files.get(name)
    return files.get(candidates[-1])


def _has_weights(folder: Path) -> bool:
    try:
        find_in_folder(folder, folder.name)
    except ExportError:
        return False
    return True


@contextlib.contextmanager
def _as_export_error(model: str, revision: str | None, unreachable: str | None) -> Iterator[None]:
    """Turn errors of the hub's client into ExportError with one sentence."""
    at = _at(model, revision)
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
        missing = f"{at} is neither a local folder nor in the hub's cache"
        if unreachable is None:
            raise ExportError(
                f"{missing}: correct its name, or export it once without --offline and "
                "HF_HUB_OFFLINE"
            ) from error
        raise ExportError(
            f"{missing}, and the hub at {constants.ENDPOINT} cannot be reached ({unreachable}): "
            "correct its name, or check the network"
        ) from error
    except Exception as error:
        # An HTTP client's own error, a full disk, a damaged cache.
        raise ExportError(f"{at} cannot be downloaded: {error_reason(error)}") from error
