"""hf:USER/REPO names, of a server on this machine that answers as the hub does."""

import hashlib
import json
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
import torch
from huggingface_hub import constants

import train
from conftest import EUROSAT_CLASSES, GOLDEN, train_arguments
from trainer import load
from trainer.checkpoints import __main__ as checkpoint
from trainer.checkpoints import hub
from trainer.checkpoints.identity import Identity, seal
from trainer.evaluation.request import folders_of

PUBLISHED = GOLDEN / "published_checkpoint"
COMMIT = "a" * 40
MODEL = "MultiModalRepresentationLearner"


class Hub(BaseHTTPRequestHandler):
    """One repository, us/eurosat, with the files of a folder."""

    folder = None

    def do_HEAD(self):
        self.answer(has_body=False)

    def do_GET(self):
        self.answer(has_body=True)

    def answer(self, has_body):
        path = unquote(urlsplit(self.path).path)
        about, file = "/api/models/us/eurosat/revision/", "/us/eurosat/resolve/"
        for prefix in (about, file):
            revision, _, name = path.removeprefix(prefix).partition("/")
            if path.startswith(prefix) and revision in ("main", "v1", COMMIT):
                content = self.listing() if prefix == about else self.content(name)
                return self.no() if content is None else self.send(content, has_body)
        return self.no()

    def content(self, name):
        path = self.folder / name
        return path.read_bytes() if path.is_file() else None

    def listing(self):
        files = [p for p in self.folder.rglob("*") if p.is_file()]
        names = [{"rfilename": p.relative_to(self.folder).as_posix()} for p in files]
        return json.dumps({"id": "us/eurosat", "sha": COMMIT, "siblings": names}).encode()

    def send(self, content, has_body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if has_body:
            self.wfile.write(content)

    def no(self):
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that the hub serves as us/eurosat, and an empty cache."""
    folder = tmp_path / "served"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("OneHub", (Hub,), {"folder": folder}))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    hub.fetch.cache_clear()
    yield folder
    server.shutdown()
    server.server_close()
    hub.fetch.cache_clear()


@pytest.mark.parametrize("name", ["hf:us/eurosat", "hf:us/eurosat@v1"])
def test_a_published_tree_loads_by_its_name(name, served, clip_file):
    shutil.copytree(PUBLISHED / MODEL, served / MODEL)
    names = EUROSAT_CLASSES[:5]
    own = load(str(PUBLISHED), names, backbone=clip_file, device="cpu")
    theirs = load(name, names, backbone=clip_file, device="cpu")
    pictures = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(own.scores(pictures), theirs.scores(pictures))


def test_an_exported_file_is_taken_before_others_and_then_from_the_cache(
    served, monkeypatch, capsys, tmp_path
):
    checkpoint.main(["export", str(PUBLISHED), str(served / "model.safetensors")])
    (served / "README.md").write_text("a card")
    shutil.copytree(PUBLISHED / MODEL, served / MODEL)
    found = hub.fetch("hf:us/eurosat")
    assert found.name == "model.safetensors"
    assert hub.fetch("hf:us/eurosat", 2).name == "model.pth.tar-2"
    hub.fetch.cache_clear()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # nobody answers
    assert hub.fetch("hf:us/eurosat") == found
    capsys.readouterr()
    assert checkpoint.main(["describe", "hf:us/other"]) == 2
    assert "and it is not in the cache" in capsys.readouterr().err


def test_a_file_that_was_changed_is_refused(served, capsys):
    state = {"state_dict": {"learner": torch.ones(2)}, "epoch": 1}
    whole = seal(state, Identity("MMRL", {}))
    whole["state_dict"]["learner"][0] = 2
    torch.save(whole, served / "model-best.pth.tar")
    assert checkpoint.main(["describe", "hf:us/eurosat"]) == 2
    assert "does not match its digest" in capsys.readouterr().err


def test_evaluation_takes_a_name(served, eurosat_root, clip_file, tmp_path):
    shutil.copytree(PUBLISHED / MODEL, served / MODEL)
    arguments = train_arguments(eurosat_root, tmp_path / "out", clip_file)
    arguments = arguments[: arguments.index("TRAINER.MMRL.REP_DIM")]
    command = ["--eval-only", "--model-dir", "hf:us/eurosat", *arguments]
    assert train.main([*command, "TRAINER.MMRL.PREC", "fp32"]) == 0
    assert json.loads((tmp_path / "out/results.json").read_text())["model_dir"] == "hf:us/eurosat"


@pytest.mark.parametrize(
    ("name", "files", "message"),
    [
        ("hf:eurosat", [], "is no repository; give hf:USER/REPO"),
        ("hf:us/eurosat@", [], "is no repository; give hf:USER/REPO"),
        ("hf:us/absent", [], "does not give 'hf:us/absent' (status 404)"),
        ("hf:us/eurosat@v2", [], "does not give 'hf:us/eurosat@v2' (status 404)"),
        ("hf:us/eurosat", ["pytorch_model.bin"], "has no checkpoint of this project"),
        ("hf:us/eurosat", ["a.safetensors", "b.safetensors"], "2 checkpoints (a.safetensors, b"),
        ("hf:us/eurosat", ["model.safetensors"], "Cannot read"),
    ],
)
def test_what_is_not_there_is_one_sentence(name, files, message, served, capsys):
    for file in files:
        (served / file).write_bytes(b"no tensors")
    assert checkpoint.main(["describe", name]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_package_that_is_missing_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    hub.fetch.cache_clear()
    assert checkpoint.main(["describe", "hf:us/eurosat"]) == 2
    assert "pip install huggingface_hub" in capsys.readouterr().err


def test_results_of_several_names_go_to_folders_of_their_own():
    assert folders_of(["hf:us/a", "hf:us/b@v1"], "out") == ["out/a", "out/b@v1"]
    assert folders_of(["hf:us/a", "hf:me/a"], "out") == ["out/us/a", "out/me/a"]
