"""Figures and reading of foreign files: items 7, 16 and 17 of the API's checklist."""

import os
import pickle

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from dassl.config import get_cfg_default
from dassl.evaluation import Classification
from dassl.metrics import compute_accuracy, compute_distance_matrix
from dassl.utils import load_checkpoint
from dassl.utils.torchfile import UnsafeFileError, read


def evaluator(tmp_path, **test):
    cfg = get_cfg_default()
    cfg.OUTPUT_DIR = str(tmp_path)
    for key, value in test.items():
        cfg.TEST[key] = value
    return Classification(cfg, lab2cname={i: f"name {i}" for i in range(6)})


@pytest.mark.parametrize("batch", [1, 7, 60])
def test_figures_equal_scikit_learn_s_whatever_the_batch(tmp_path, batch):
    rng = np.random.default_rng(0)
    scores = torch.from_numpy(rng.normal(size=(60, 6)))
    scores[:, 2] = -9  # never predicted
    labels = torch.from_numpy(rng.integers(0, 5, 60))  # class 5 is never present
    e = evaluator(tmp_path)
    for start in range(0, 60, batch):
        e.process(scores[start : start + batch], labels[start : start + batch])
    got = e.evaluate()
    pred = scores.argmax(1)
    assert list(got) == ["accuracy", "error_rate", "macro_f1"]
    assert got["accuracy"] == 100 * (pred == labels).double().mean().item()
    want = f1_score(labels, pred, average="macro", labels=labels.unique().numpy())
    assert got["macro_f1"] == pytest.approx(100 * want, rel=1e-12)


def test_per_class_block_and_confusion_matrix(tmp_path, capsys):
    e = evaluator(tmp_path, PER_CLASS_RESULT=True, COMPUTE_CMAT=True)
    e.process(torch.eye(6)[[0, 1, 1, 3]], torch.tensor([0, 0, 1, 1]))
    got = e.evaluate()
    assert got["perclass_accuracy"] == 50.0
    text = capsys.readouterr().out
    assert "* class: 0 (name 0)\ttotal: 2\tcorrect: 1\tacc: 50.0%" in text
    assert "* average: 50.0%" in text
    matrix = torch.load(tmp_path / "cmat.pt", weights_only=False)
    assert matrix.tolist() == [[0.5, 0.5, 0], [0, 0.5, 0.5], [0, 0, 0]]


def test_nothing_to_evaluate_is_said(tmp_path):
    with pytest.raises(ValueError, match="no batch"):
        evaluator(tmp_path).evaluate()


def test_accuracy_shape_percent_tuple_and_topk():
    scores = torch.tensor([[9.0, 1, 0, 0, 0], [0, 1, 2, 3, 9]])
    top1, top5 = compute_accuracy((scores, None), torch.tensor([0, 0]), topk=(1, 5))
    assert (top1.shape, top1.item(), top5.item()) == ((1,), 50.0, 100.0)
    with pytest.raises(ValueError, match="5 classes"):
        compute_accuracy(scores, torch.tensor([0, 0]), topk=(6,))


def test_distances():
    a, b = torch.randn(3, 4), torch.randn(2, 4)
    want = torch.cdist(a, b).square()
    torch.testing.assert_close(compute_distance_matrix(a, b), want, rtol=1e-4, atol=1e-5)
    cosine = compute_distance_matrix(a, a, "cosine").diagonal()
    torch.testing.assert_close(cosine, torch.zeros(3), rtol=0, atol=1e-6)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch " + os.environ["HOSTILE_MARK"],)


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_hostile_pickle_is_refused_and_not_executed(tmp_path, monkeypatch, protocol):
    mark = tmp_path / "executed"
    monkeypatch.setenv("HOSTILE_MARK", str(mark))
    path = tmp_path / "model.pth.tar-1"
    torch.save({"state_dict": {}, "scheduler": Hostile()}, path, pickle_protocol=protocol)
    with pytest.raises(UnsafeFileError, match=r"model\.pth\.tar-1.*system.*Nothing was executed"):
        load_checkpoint(str(path))
    path.write_bytes(pickle.dumps(Hostile(), protocol=protocol))
    with pytest.raises(ValueError, match=r"model\.pth\.tar-1"):
        read(str(path))
    assert not mark.exists()


def test_a_torn_file_is_named(tmp_path, capsys):
    path = tmp_path / "model.pth.tar-1"
    torch.save({"state_dict": {"w": torch.ones(100)}}, path)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"model\.pth\.tar-1.*torn"):
        load_checkpoint(str(path))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_checkpoint(str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match="None"):
        load_checkpoint(None)
    assert f'Unable to load checkpoint from "{path}"' in capsys.readouterr().out


@pytest.mark.parametrize("value", [[1], torch.optim.SGD([torch.ones(1)])])
def test_a_file_without_a_dict_is_no_checkpoint(tmp_path, value):
    torch.save(value, tmp_path / "x.pt")
    with pytest.raises(ValueError, match=r"x\.pt' is not a checkpoint: it holds no dict"):
        load_checkpoint(str(tmp_path / "x.pt"))
