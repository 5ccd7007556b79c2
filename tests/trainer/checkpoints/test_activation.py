"""Another activation is another backbone, in all that a run leaves."""

import json

import pytest
from safetensors.torch import load_file

import predict
import train
from clip import load as load_clip
from conftest import build_cfg, train_arguments
from dassl.utils import load_checkpoint
from trainer.checkpoints import __main__ as checkpoints
from trainer.checkpoints.identity import Identity, fingerprint, first_difference, plain_settings
from trainer.config import flatten

ACTIVATION = "MODEL.BACKBONE.ACTIVATION"
MODEL = "MultiModalRepresentationLearner/model.pth.tar-1"


def test_another_activation_has_another_fingerprint(clip_file):
    quick, gelu = (fingerprint(load_clip(clip_file, name)) for name in ("quick_gelu", "gelu"))
    assert quick == fingerprint(load_clip(clip_file)) != gelu


@pytest.mark.parametrize(
    ("stored", "wanted", "found"),
    [
        ("auto", "quick_gelu", None),
        ("gelu", "auto", None),  # the fingerprints compare what it stands for
        ("gelu", "quick_gelu", f"was made with {ACTIVATION} gelu, but {ACTIVATION} is now quick"),
        ("auto", "gelu", f"was made with {ACTIVATION} quick_gelu, but {ACTIVATION} is now gelu"),
    ],
)
def test_activations_are_compared_as_older_files_mean_them(stored, wanted, found):
    settings = plain_settings(flatten(build_cfg("data", 4, "all")))
    one, two = (Identity("MMRL", settings | {ACTIVATION: said}) for said in (stored, wanted))
    difference = first_difference(one, two)
    assert difference is None if found is None else found in difference


@pytest.fixture(scope="module")
def run(eurosat_root, clip_file, tmp_path_factory):
    out = tmp_path_factory.mktemp("gelu") / "run"
    assert train.main(request(eurosat_root, out, clip_file, ACTIVATION, "gelu")) == 0
    return out


def request(root, out, clip_file, *options):
    return [*train_arguments(root, out, clip_file), "OPTIM.MAX_EPOCH", "1", *options]


def test_results_checkpoints_and_exported_files_say_it(run, tmp_path):
    results = json.loads((run / "results.json").read_text())
    assert results["identity"]["settings"][ACTIVATION] == "gelu"
    assert load_checkpoint(str(run / MODEL))["identity"]["settings"][ACTIVATION] == "gelu"
    out = tmp_path / "out.safetensors"
    assert checkpoints.main(["export", str(run), str(out)]) == 0
    assert b'\\"gelu\\"' in out.read_bytes()[:20000]
    assert load_file(out)


def test_an_evaluation_reads_it_back_and_refuses_another(
    run, eurosat_root, clip_file, tmp_path, capsys
):
    model = ["--eval-only", "--model-dir", str(run)]
    assert train.main([*model, *request(eurosat_root, tmp_path / "same", clip_file)]) == 0
    one, two = (json.loads((f / "results.json").read_text()) for f in (run, tmp_path / "same"))
    assert two["identity"]["settings"][ACTIVATION] == "gelu"
    assert one["accuracy"] == two["accuracy"]
    other = request(eurosat_root, tmp_path / "other", clip_file, ACTIVATION, "quick_gelu")
    assert train.main([*model, *other]) == 2
    error = capsys.readouterr().err
    assert "CLIP tiny.pt with gelu (fingerprint" in error
    assert "now tiny.pt with quick_gelu (fingerprint" in error
    assert train.main(request(eurosat_root, run, clip_file)) == 2
    assert "is now quick_gelu" in capsys.readouterr().err


def test_predictions_read_it_back(run, eurosat_root):
    """QuickGELU, which the bare weights file stands for, would be refused by the fingerprint."""
    picture = str(next(eurosat_root.rglob("*.jpg")))
    assert predict.main([str(run), picture]) == 0
