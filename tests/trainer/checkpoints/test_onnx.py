"""Exported classifiers: onnxruntime against torch, and the example of docs/deploy.md."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms import Normalize

from benchmarks.measure import build_model
from clip import tokenize
from clip.model import CLIP
from conftest import EUROSAT_CLASSES, GOLDEN, REPOSITORY
from dassl.data.transforms import build_transform
from trainer import load
from trainer.checkpoints import __main__ as checkpoint
from trainer.checkpoints.onnx_file import OPSET, to_onnx
from trainer.config import build_config
from trainer.method.build import build_mmrlpp
from trainer.method.readout import ReadOut
from trainer.predictor import Predictor

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

PUBLISHED = GOLDEN / "published_checkpoint"
NAMES = EUROSAT_CLASSES[:5]


@pytest.fixture(scope="module")
def written(clip_file, tmp_path_factory):
    """A published checkpoint's classifier in both precisions, and what it was written from."""
    folder = tmp_path_factory.mktemp("onnx")
    for name, extra in (("full", []), ("half", ["--half"])):
        out = str(folder / f"{name}.onnx")
        words = [*("--backbone", clip_file), *("--classes", ",".join(NAMES)), *extra]
        assert checkpoint.main(["export", str(PUBLISHED), out, *words]) == 0
    return folder, load(str(PUBLISHED), NAMES, backbone=clip_file, device="cpu")


def normalised(pixels, model):
    last, batch = model.transform.transforms[-1], torch.from_numpy(pixels)
    return last(batch) if isinstance(last, Normalize) else batch


@torch.no_grad()
def gap(path, model, num_pictures):
    """The largest difference of logits, and the two outputs."""
    side = model.model.image_encoder.tower.resolution
    pixels = np.random.default_rng(num_pictures).random((num_pictures, 3, side, side), "float32")
    session = onnxruntime.InferenceSession(path)
    probabilities, logits = session.run(["probabilities", "logits"], {"image": pixels})
    want = model.scores(normalised(pixels, model)).numpy()
    return np.abs(logits - want).max(), probabilities, logits


@pytest.mark.parametrize("num_pictures", [1, 7])
def test_logits_equal_torch_s(num_pictures, written):
    folder, model = written
    found, probabilities, logits = gap(folder / "full.onnx", model, num_pictures)
    assert logits.shape == (num_pictures, 5)
    assert found < 1e-4
    np.testing.assert_allclose(probabilities, torch.tensor(logits).softmax(1), atol=1e-6)


def test_half_the_size_and_nearly_the_same_logits(written):
    folder, model = written
    found, _, logits = gap(folder / "half.onnx", model, 7)
    assert 0 < found < 0.05  # of 100 times a cosine; learned tensors lose 13 bits of 24
    assert logits.dtype == np.float32
    sizes = [(folder / f"{name}.onnx").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]


def test_the_metadata_say_what_a_program_needs(written, clip_file):
    folder, model = written
    stored = onnx.load(folder / "full.onnx")
    onnx.checker.check_model(stored)
    assert [item.version for item in stored.opset_import] == [OPSET]
    about = json.loads({p.key: p.value for p in stored.metadata_props}["mmrl"])
    assert about["classnames"] == NAMES
    assert about["template"] == model.template == "a photo of a {}."
    assert (about["reads"], about["temperature"], about["size"]) == ("fusion", 1.0, 32)
    assert about["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    content = (folder / "full.onnx").read_bytes()
    for path in (clip_file, str(REPOSITORY), sys.prefix, "/site-packages/"):
        assert path.encode() not in content


def test_the_example_answers_as_predict_does(written, tmp_path, monkeypatch, capsys):
    text = (REPOSITORY / "docs/deploy.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(example.splitlines()) <= 15
    folder, model = written
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 255, (41, 67, 3), dtype=np.uint8), "RGB")
    picture.save(tmp_path / "field.png")
    (tmp_path / "eurosat.onnx").write_bytes((folder / "full.onnx").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    exec(example, {})
    answer = model.predict([picture], top=1)[0]
    printed = capsys.readouterr().out.split()
    assert " ".join(printed[:-1]) == answer.names[0]
    assert float(printed[-1]) == pytest.approx(answer.probabilities[0], abs=1e-3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.safetensors", "--half"], "--half is for exports to OUT.onnx"),
        (["x.onnx", "--classes", "river,River"], "which CLIP reads alike"),
        (["x.onnx"], "does not record its classes"),
    ],
)
def test_wrong_requests(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert checkpoint.main(["export", str(PUBLISHED), *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_missing_package_is_named(clip_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    words = ["export", str(PUBLISHED), str(tmp_path / "x.onnx"), "--classes", "a,b"]
    assert checkpoint.main([*words, "--backbone", clip_file]) == 2
    assert "pip install onnx" in capsys.readouterr().err


def random_predictor(model, reads):
    """A predictor of a model whose learned tensors are random."""
    torch.manual_seed(1)
    for p in model.learned().values():
        nn.init.normal_(p, std=0.02)
    side = model.image_encoder.tower.resolution
    cfg = build_config(flags={"INPUT.SIZE": (side, side)})[0]
    names = [f"class {label}" for label in range(len(model.frozen_text))]
    read_out = ReadOut.of([reads == "fusion"] * len(names), torch.device("cpu"))
    return Predictor(model, names, build_transform(cfg, is_train=False), read_out)


def test_blended_tokens_and_the_class_feature(clip_state, tmp_path):
    ranks = {"layer_rank": 4, "projection_rank": 8}
    sizes = {"num_tokens": 3, "rep_dim": 16, "rep_layers": [2, 4], "alpha": 0.7, "beta": 0.6}
    frozen = CLIP.from_state_dict(clip_state)
    model = random_predictor(
        build_mmrlpp(frozen, tokenize(["a cat", "a dog"]), **sizes, **ranks), "class feature"
    )
    (tmp_path / "x.onnx").write_bytes(to_onnx(model, {}))
    for num_pictures in (1, 7):
        assert gap(tmp_path / "x.onnx", model, num_pictures)[0] < 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("method", ["MMRL", "MMRLpp"])
def test_the_size_of_the_published_models(method, tmp_path):
    model = random_predictor(build_model(method, 10, torch.device("cpu"))[0], "fusion")
    (tmp_path / "x.onnx").write_bytes(to_onnx(model, {}))
    gaps = [gap(tmp_path / "x.onnx", model, num_pictures)[0] for num_pictures in (1, 7)]
    print(f"{method}: {(tmp_path / 'x.onnx').stat().st_size:,} bytes, logits differ by {gaps}")
    assert max(gaps) < 1e-4
