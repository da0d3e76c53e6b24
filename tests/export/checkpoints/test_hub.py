"""Checkpoints from the hub: the real client against a small hub server on the loopback address.

huggingface_hub reads its endpoint, cache and offline switch once, at import, so each client is a
process that opens one checkpoint after another.
"""

import hashlib
import json
import os
import subprocess
import sys
import tarfile
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OLD_COMMIT = "89abcdef0123456789abcdef0123456789abcdef"

CLIENT = """
import dataclasses, json, sys
import torch
from bertrt.errors import ExportError
from bertrt.export.checkpoints.checkpoint import open_checkpoint
for line in sys.stdin:
    try:
        found = open_checkpoint(**json.loads(line))
        answer = {
            "source": dataclasses.asdict(found.source),
            "weights": sorted(found.weights),
            "files": sorted(path.name for path in found.folder.iterdir()),
            "tokenizer_files": sorted(path.name for path in found.tokenizer_folder.iterdir()),
            "first": found.weights.get("bert.pooler.dense.bias", torch.zeros(1))[0].item(),
        }
    except ExportError as error:
        answer = {"error": str(error)}
    print(json.dumps(answer), flush=True)
"""

Files = dict[str, bytes]

ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "google-bert/bert-base-uncased"}
OLD_MODULES = [
    {"idx": 0, "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]

FRAMEWORKS = Path(__file__).parents[2] / "golden" / "frameworks"
# The files of each that are downloaded besides the tokenizer's.
GOLDEN = {
    "tf1-pretraining": ["bert_config.json", "bert_model.ckpt."],
    "tf1-squad": ["bert_config.json", "checkpoint", "model.ckpt-11."],
    "h5-question-answering": ["config.json", "tf_model.h5"],
    "h5-shards-question-answering": ["config.json", "tf_model-0000", "tf_model.h5.index.json"],
    "msgpack-shards-multiple-choice": ["config.json", "flax_model"],
}


TOKENIZER_FILES = {"tokenizer.json", "tokenizer_config.json", "vocab.txt"}
# Vocabularies of other tokenizers, each with its class.
OTHER_VOCABULARIES = {
    "bpe": ("RobertaTokenizer", ["merges.txt", "vocab.json"]),
    "fairseq": ("XLMRobertaTokenizer", ["sentencepiece.bpe.model"]),
    "pieces": ("AlbertTokenizer", ["spiece.model"]),
}


@dataclass
class Hub:
    """A hub; `models` maps `owner/name` to revisions (branches and commits), and these to files."""

    url: str = ""
    models: dict[str, dict[str, Files]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)

    def fetched(self) -> list[str]:
        """Return the names of the files that were sent since the last call, sorted."""
        gets = [request for request in self.requests if request.startswith("GET /owner/")]
        names = [request.rpartition("/")[2] for request in gets]
        self.requests.clear()
        return sorted(names)


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self) -> None:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            parts = path.strip("/").split("/")
            listing = parts[:2] == ["api", "models"]
            if listing:
                parts = parts[2:]
            repository = "/".join(parts[:2])
            if repository == "owner/gated" and not listing:
                return self._send(403, b"", {"X-Error-Code": "GatedRepo"})
            if repository == "owner/broken":
                return self._send(500, b"", {})
            if repository not in hub.models:
                return self._send(404, b"", {"X-Error-Code": "RepoNotFound"})
            revisions = hub.models[repository]
            revision = parts[3] if len(parts) > 3 else "main"
            if revision not in revisions:
                return self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
            files = revisions[revision]
            commit = next(key for key in revisions if len(key) == 40 and revisions[key] is files)
            if listing:
                siblings = [{"rfilename": name} for name in files]
                info = {"id": repository, "sha": commit, "siblings": siblings}
                return self._send(200, json.dumps(info).encode(), {})
            name = "/".join(parts[4:])
            if name not in files:
                return self._send(404, b"", {"X-Error-Code": "EntryNotFound"})
            headers = {"X-Repo-Commit": commit, "ETag": f'"{_etag(files[name])}"'}
            return self._send(200, files[name], headers)

        def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


@pytest.fixture(scope="module")
def files(make_checkpoint: Callable[..., Path]) -> Files:
    folder = make_checkpoint("BertForSequenceClassification")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def hub(files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    weights = safetensors.torch.load(files["model.safetensors"])
    bare = {name: data for name, data in files.items() if name != "model.safetensors"}
    clutter = {
        "README.md": b"about",
        "tf_model.h5": b"tf",
        "flax_model.msgpack": b"flax",
        "onnx/model.onnx": b"onnx",
        "pytorch_model.bin": b"never read",
        "training_args.bin": b"never read",
    }
    both = {**files, **clutter}
    older = {name: tensor + 1.0 for name, tensor in weights.items()}
    old = {**bare, "model.safetensors": safetensors.torch.save(older, {"format": "pt"})}
    no_config = {name: data for name, data in files.items() if name != "config.json"}
    vocabulary = {name: files[name] for name in files if name in TOKENIZER_FILES}
    adapter = {"adapter_config.json": json.dumps(ADAPTER).encode()}
    foreign = {**files, "config.json": json.dumps({"model_type": "deberta"}).encode()}

    def revisions(content: Files) -> dict[str, Files]:
        return {"main": content, COMMIT: content}

    hub = Hub(
        models={
            "owner/both": {**revisions(both), "v1": old, OLD_COMMIT: old},
            "owner/bin": revisions({**bare, **_pickled(weights, tmp_path_factory.mktemp("bin"))}),
            "owner/shards": revisions({**bare, **_sharded(weights), "pytorch_model.bin": b"no"}),
            "owner/tf": revisions({**bare, "tf_model.h5": b"tf"}),
            "owner/empty": revisions(bare),
            "owner/no-config": revisions(no_config),
            "owner/deberta": revisions(foreign),
            "owner/gated": revisions(files),
            "owner/later": revisions(files),
            "owner/adapter": revisions(
                {
                    **adapter,
                    "adapter_model.safetensors": b"never read",
                    **(
                        vocabulary := {name: both[name] for name in both if name in TOKENIZER_FILES}
                    ),
                }
            ),
            "owner/merged": revisions(
                {**files, "adapter_config.json": json.dumps(ADAPTER).encode()}
            ),
            "owner/onnx": revisions(
                {"config.json": files["config.json"], "onnx/model.onnx": b"no"}
            ),
            "owner/old-st": revisions(
                {
                    "modules.json": json.dumps(OLD_MODULES).encode(),
                    **{f"0_Transformer/{name}": data for name, data in files.items()},
                    # Files with equal bytes would be downloaded once.
                    "1_Pooling/config.json": b'{"pooling_mode": "cls"}',
                    "2_Dense/config.json": b'{"in_features": 8}',
                    "2_Dense/model.safetensors": b"weights",
                    "2_Dense/pytorch_model.bin": b"the same weights",
                    "0_Transformer/sentence_bert_config.json": b'{"max_seq_length": 9}',
                    "config_sentence_transformers.json": b"{}",
                    "openvino/config.json": b"never read",
                }
            ),
            "owner/steps": revisions(
                {f"checkpoint-{step}/{name}": b"" for step in (500, 1000) for name in files}
            ),
            "owner/words": revisions({**vocabulary, "README.md": b"", "model.safetensors": b"no"}),
            "owner/words-later": revisions(vocabulary),
            **{f"owner/{name}": revisions(_golden(name)) for name in GOLDEN},
            **{
                f"owner/{name}": revisions(_vocabulary(*kind))
                for name, kind in OTHER_VOCABULARIES.items()
            },
        }
    )
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def _golden(name: str) -> Files:
    """Return the files of a checkpoint of another framework, and some unrelated ones."""
    files: Files = {}
    with tarfile.open(FRAMEWORKS / f"{name}.tar.xz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            assert content is not None
            files[member.name.partition("/")[2]] = content.read()
    return files | {"bert_model.ckpt.meta": b"never read", "more/x.index": b"never read"}


def _vocabulary(class_name: str, names: list[str]) -> Files:
    """Return the files of a tokenizer without a tokenizer.json, and an unrelated one."""
    settings = json.dumps({"tokenizer_class": class_name}).encode()
    others = {name: f"{name} of {class_name}".encode() for name in names}
    return {"tokenizer_config.json": settings, "README.md": b"never read", **others}


def _pickled(weights: dict[str, torch.Tensor], folder: Path) -> Files:
    torch.save(weights, folder / "pytorch_model.bin")
    return {"pytorch_model.bin": (folder / "pytorch_model.bin").read_bytes()}


def _sharded(weights: dict[str, torch.Tensor]) -> Files:
    names = sorted(weights)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    files: Files = {}
    table: dict[str, str] = {}
    for number, half in enumerate(halves, start=1):
        file = f"model-0000{number}-of-00002.safetensors"
        content = {name: weights[name] for name in half}
        files[file] = safetensors.torch.save(content, {"format": "pt"})
        table |= dict.fromkeys(half, file)
    files["model.safetensors.index.json"] = json.dumps({"weight_map": table}).encode()
    return files


Ask = Callable[..., dict[str, Any]]


@contextmanager
def _client(home: Path, url: str, offline: str = "0") -> Iterator[Ask]:
    """Start a process with the real client; yields a function that opens a checkpoint in it."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        "HF_ENDPOINT": url,
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": offline,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": "2",
        "NO_PROXY": "*",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", CLIENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        cwd=home,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None

    def ask(model: str, **options: Any) -> dict[str, Any]:
        process.stdin.write(json.dumps({"model": model, **options}) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    yield ask
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    process.stdout.close()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache that all clients of this module share."""
    return tmp_path_factory.mktemp("hub-home")


@pytest.fixture(scope="module")
def online(hub: Hub, home: Path) -> Iterator[Ask]:
    with _client(home, hub.url) as ask:
        yield ask


def test_only_needed_files_are_downloaded(online: Ask, hub: Hub, files: Files) -> None:
    hub.requests.clear()
    answer = online("owner/both")
    expected = {"config.json", "model.safetensors"} | TOKENIZER_FILES
    expected |= files.keys() & {"special_tokens_map.json"}
    assert hub.fetched() == sorted(expected)
    assert answer["files"] == sorted(expected)
    assert answer["source"] == {
        "model": "owner/both",
        "revision": COMMIT,
        "format": "safetensors",
        "files": ["model.safetensors"],
        "sha256": hashlib.sha256(files["model.safetensors"]).hexdigest(),
        "tokenizer": None,
    }
    assert online("owner/both")["source"] == answer["source"]
    assert hub.fetched() == []


def test_a_model_of_sentence_transformers_with_a_subfolder(
    online: Ask, hub: Hub, files: Files
) -> None:
    hub.requests.clear()
    answer = online("owner/old-st")
    expected = {"config.json", "model.safetensors"} | TOKENIZER_FILES
    expected |= files.keys() & {"special_tokens_map.json"}
    outer = ["config.json", "config.json", "config_sentence_transformers.json"]
    outer += ["model.safetensors", "modules.json", "sentence_bert_config.json"]
    assert hub.fetched() == sorted([*expected, *outer])
    folders = {"0_Transformer", "1_Pooling", "2_Dense"}
    assert set(answer["files"]) == folders | {"config_sentence_transformers.json", "modules.json"}
    assert expected <= set(answer["tokenizer_files"])
    assert answer["source"]["model"] == "owner/old-st"
    assert answer["source"]["revision"] == COMMIT
    hub.requests.clear()
    assert online("owner/old-st", offline=True) == answer
    assert hub.requests == []


def test_a_cached_checkpoint_is_read_offline_without_a_request(online: Ask, hub: Hub) -> None:
    answer = online("owner/both")
    hub.requests.clear()
    assert online("owner/both", offline=True) == answer
    assert hub.requests == []


@pytest.mark.parametrize("revision", ["v1", OLD_COMMIT])
def test_a_revision_has_its_own_weights(online: Ask, revision: str) -> None:
    main, old = online("owner/both"), online("owner/both", revision=revision)
    assert old["source"]["revision"] == OLD_COMMIT
    assert old["first"] == pytest.approx(main["first"] + 1.0, abs=1e-6)


def test_a_pickle_is_downloaded_if_there_are_no_safetensors(online: Ask, hub: Hub) -> None:
    hub.requests.clear()
    answer = online("owner/bin")
    assert "pytorch_model.bin" in hub.fetched()
    assert answer["source"]["format"] == "pytorch_model.bin"
    assert answer["first"] == online("owner/both")["first"]


def test_shards_are_downloaded_with_their_index(online: Ask, hub: Hub) -> None:
    hub.requests.clear()
    answer = online("owner/shards")
    fetched = hub.fetched()
    assert "model-00001-of-00002.safetensors" in fetched
    assert "model.safetensors.index.json" in fetched
    assert "pytorch_model.bin" not in fetched
    assert len(answer["source"]["files"]) == 2
    assert answer["weights"] == online("owner/both")["weights"]


@pytest.mark.parametrize("name", GOLDEN)
def test_other_frameworks_files_are_downloaded_and_read(online: Ask, hub: Hub, name: str) -> None:
    hub.requests.clear()
    answer = online(f"owner/{name}")
    # TensorFlow wrote an empty first shard that its index does not list.
    unneeded = ("bert_model.ckpt.meta", "tf_model-00001-of-00008.h5")
    expected = [
        file
        for file in hub.models[f"owner/{name}"]["main"]
        if file.startswith(("vocab.txt", *GOLDEN[name])) and file not in unneeded
    ]
    assert hub.fetched() == sorted(expected)
    assert set(answer["source"]["files"]) <= set(expected)
    assert len(answer["weights"]) > 30
    assert online(f"owner/{name}", offline=True) == answer
    assert hub.fetched() == []


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ("owner/none", {}, "neither a local folder nor a model on the hub"),
        ("owner/both", {"revision": "v9"}, "no revision 'v9'"),
        ("owner/gated", {}, "is gated"),
        ("owner/broken", {}, "cannot be reached"),
        ("owner/no-config", {}, "no config.json or bert_config.json on the hub"),
        ("owner/empty", {}, "has no weights"),
        ("owner/tf", {}, "tf_model.h5 is damaged"),
        ("owner/na--me..", {}, "neither a folder nor a hub id"),
        ("two words", {}, "neither a folder nor a hub id"),
        ("", {}, "name is empty"),
        ("./no/such", {}, "there is no folder './no/such'"),
        ("a/b/c", {}, "there is no folder 'a/b/c'"),
        (
            "owner/later",
            {"offline": True},
            "owner/later is neither a local folder nor in the hub's cache: correct its name, or "
            "export it once without --offline",
        ),
        ("nowhere", {}, "'nowhere' is neither a local folder nor a model on the hub"),
        ("nowhere", {"offline": True}, "nowhere is neither a local folder nor in the hub's cache"),
        ("owner/onnx", {}, "it holds ONNX files (onnx/model.onnx)"),
        ("owner/steps", {}, "of which 'checkpoint-1000' is the last"),
        (
            "owner/both",
            {"tokenizer": "owner/none"},
            "neither a local folder nor a model on the hub",
        ),
        (
            "owner/both",
            {"tokenizer": "owner/onnx"},
            "owner/onnx has no tokenizer.json or vocab.txt",
        ),
        ("owner/both", {"tokenizer": ""}, "name is empty: give --tokenizer"),
        ("owner/both", {"tokenizer": "./no/such"}, "there is no folder './no/such': give --tok"),
    ],
)
def test_errors_are_one_sentence(
    online: Ask, model: str, options: dict[str, Any], message: str
) -> None:
    error = online(model, **options)["error"]
    assert message in error
    assert "\n" not in error


def test_other_architectures_are_refused_before_the_download(online: Ask, hub: Hub) -> None:
    hub.requests.clear()
    assert "model_type is 'deberta'" in online("owner/deberta")["error"]
    assert hub.fetched() == ["config.json"]


@pytest.mark.parametrize("name", ["adapter", "merged"])
def test_an_adapter_is_refused_before_the_download(online: Ask, hub: Hub, name: str) -> None:
    hub.requests.clear()
    error = online(f"owner/{name}")["error"]
    assert "is an adapter (LORA) of 'google-bert/bert-base-uncased', not a whole model" in error
    assert "merge_and_unload()" in error
    assert hub.fetched() == ["adapter_config.json"]


@pytest.mark.parametrize("name", OTHER_VOCABULARIES)
def test_the_vocabulary_of_another_class(online: Ask, hub: Hub, name: str) -> None:
    files = sorted(["tokenizer_config.json", *OTHER_VOCABULARIES[name][1]])
    hub.fetched()
    answer = online("owner/both", revision="v1", tokenizer=f"owner/{name}")
    assert answer["tokenizer_files"] == files
    assert set(files) <= set(hub.fetched())
    again = online("owner/both", revision="v1", tokenizer=f"owner/{name}", offline=True)
    assert again == answer


def test_a_tokenizer_of_another_model(online: Ask, hub: Hub) -> None:
    """Its files alone are downloaded, from the main branch, and the weights are the model's."""
    plain = online("owner/both", revision="v1")
    hub.requests.clear()
    answer = online("owner/both", revision="v1", tokenizer="owner/words")
    assert hub.fetched() == sorted(TOKENIZER_FILES)
    assert answer["tokenizer_files"] == sorted(TOKENIZER_FILES)
    assert answer["source"] == {
        **plain["source"],
        "tokenizer": {"model": "owner/words", "revision": COMMIT},
    }
    assert (answer["first"], answer["files"]) == (plain["first"], plain["files"])
    # An adapter may have a tokenizer too.
    adapters = online("owner/both", tokenizer="owner/adapter")["tokenizer_files"]
    assert set(adapters) >= TOKENIZER_FILES
    hub.requests.clear()
    assert online("owner/both", revision="v1", tokenizer="owner/words", offline=True) == answer
    later = online("owner/both", tokenizer="owner/words-later", offline=True)
    assert "owner/words-later is neither a local folder nor in the hub's cache" in later["error"]
    assert hub.requests == []


def test_the_offline_variable_is_respected(online: Ask, hub: Hub, home: Path) -> None:
    answer = online("owner/both")
    hub.requests.clear()
    with _client(home, hub.url, offline="1") as ask:
        assert ask("owner/both") == answer
        assert "nor in the hub's cache" in ask("owner/later")["error"]
    assert hub.requests == []


def test_the_cache_is_used_without_a_network(online: Ask, home: Path) -> None:
    answer = online("owner/both")
    # Port 9 discards; nothing listens there.
    with _client(home, "http://127.0.0.1:9") as ask:
        assert ask("owner/both") == answer
        error = ask("owner/later")["error"]
        assert "nowhere is neither a local folder nor in the hub's cache" in ask("nowhere")["error"]
    assert "owner/later is neither a local folder nor in the hub's cache, and the hub" in error
    assert "cannot be reached" in error
    assert "\n" not in error
