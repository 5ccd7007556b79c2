"""The two examples of CONTRIBUTING.md, saved outside the repository, do what the page says."""

import contextlib
import json
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import predict
import train
from conftest import REPOSITORY
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import load_checkpoint
from scripts import report, sweep
from sweep.execution import State, stored_outcome
from sweep.settings import command, folder_of, resolved_config
from trainer import config, load
from trainer.checkpoints import __main__ as checkpoint_tool

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
METHOD, DATA_SET = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
COMMANDS = [
    shlex.split(line)
    for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.S)
    for line in block.replace("\\\n", " ").splitlines()
]
OF_METHOD = [words for words in COMMANDS if "alpha" in " ".join(words)]
OF_DATA_SET = [words for words in COMMANDS if "leaves.py" in words]
PROGRAMS = {
    "train.py": train.main,
    "predict.py": predict.main,
    "trainer.checkpoints": checkpoint_tool.main,
    "scripts/report.py": report.main,
    "scripts/sweep.py": sweep.main,
}
METHOD_KEYS = {"PREC": "fp32", "REP_LAYERS": "[2,3,4]", "REP_DIM": "16"}  # inherited from MMRL
TINY = [
    *("INPUT.SIZE", "(32,32)", "DATALOADER.NUM_WORKERS", "0", "TRAIN.PRINT_FREQ", "1"),
    *("OPTIM.MAX_EPOCH", "1"),
    *(word for key, value in METHOD_KEYS.items() for word in (f"TRAINER.MMRL.{key}", value)),
]
FOUR_SHOTS = ["DATASET.NUM_SHOTS", "4"]
SPECIES = ["oak", "red maple", "silver birch"]


@pytest.fixture(autouse=True)
def forget_examples(monkeypatch):
    """What the examples register is gone after the test; the repository is where they are run."""
    for registry in (TRAINER_REGISTRY, DATASET_REGISTRY):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    monkeypatch.setattr(config, "_METHODS", dict(config._METHODS))
    monkeypatch.chdir(REPOSITORY)


@pytest.fixture
def method_file(tmp_path):
    return write(tmp_path / "elsewhere" / "learned_alpha.py", METHOD)


@pytest.fixture
def leaves_file(tmp_path):
    return write(tmp_path / "elsewhere" / "leaves.py", DATA_SET)


def write(path, text):
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


@contextlib.contextmanager
def nothing_touched(file):
    """In the repository, as git sees it, and beside the file."""
    before = status(), sorted(file.parent.iterdir())
    yield
    assert (status(), sorted(file.parent.iterdir())) == before


def status():
    words = ["git", "status", "--porcelain"]
    return subprocess.run(words, cwd=REPOSITORY, capture_output=True, text=True).stdout


def call(words, places, *options):
    """Run a command of the page, its places moved; what it returns."""
    words = words[words.index("-m") + 1 :] if "-m" in words else words[1:]
    return PROGRAMS[words[0]]([*(move(word, places) for word in words[1:]), *options])


def move(word, places):
    for name, place in places.items():
        if word == name or word.startswith(f"{name}/"):
            return f"{place}{word.removeprefix(name)}"
    return word


def results_of(out):
    return json.loads((out / "results.json").read_text())


def test_the_method_goes_from_training_to_the_report(
    method_file, eurosat_root, clip_file, tmp_path, capsys
):
    out, picture = tmp_path / "out", next(eurosat_root.rglob("*.jpg"))
    places = {"learned_alpha.py": method_file, "output/alpha": out, "DATA": eurosat_root}
    places |= {"PICTURES": picture, "alpha.safetensors": tmp_path / "alpha.safetensors"}
    training, evaluation, *others = OF_METHOD[:-1]
    tiny = [*TINY, *FOUR_SHOTS, "MODEL.BACKBONE.NAME", clip_file]
    with nothing_touched(method_file):
        assert call(training, places, *tiny) == 0
        assert call(evaluation, places, *tiny) == 0
        assert [call(words, places) for words in others] == [0, 0, 0, 0]
    assert [words[2] for words in others[1:3]] == ["trainer.checkpoints"] * 2
    text = capsys.readouterr().out
    assert "5 classes, read from the fusion" in text
    assert "file learned_alpha.py: sha256" in text
    assert "Base to novel, LearnedAlpha, 4 shots" in text
    base, new = results_of(out / "base" / "seed1"), results_of(out / "new" / "seed1")
    assert (base["trainer"], base["total"], new["total"]) == ("LearnedAlpha", 15, 15)
    assert base["config"]["TRAINER.LearnedAlpha.REG_WEIGHT"] == 0.01  # MMRL's on EuroSAT
    assert base["origins"]["TRAINER.LearnedAlpha.REP_DIM"] == "the command line"
    assert list(base["identity"]["own_modules"]) == ["learned_alpha.py"]
    exported = str(tmp_path / "alpha.safetensors")
    model = load(exported, backbone=clip_file, trainer_module=str(method_file))
    assert model.model.alpha.item() == alpha_of(out / "base" / "seed1") != 0.5  # where it started


def alpha_of(folder):
    path = folder / "MultiModalRepresentationLearner" / "model.pth.tar-1"
    return load_checkpoint(str(path))["state_dict"]["alpha"].item()


def swept(words, places, clip_file, tmp_path):
    """The runs that a sweep of the page makes, and its settings, on a tiny CLIP."""
    options = words[: words.index("--root")]
    args = sweep.build_parser().parse_args([move(word, places) for word in options[2:]])
    args.root, args.output, args.backbone = str(places["DATA"]), str(tmp_path), clip_file
    args.datasets, args.seeds, args.shots = args.datasets or "eurosat", [1], [4]
    return sweep.chosen_runs(args), sweep.settings_of(args, TINY)


def test_a_sweep_takes_the_method_beside_mmrl(method_file, eurosat_root, clip_file, tmp_path):
    places = {"learned_alpha.py": method_file, "DATA": eurosat_root}
    with nothing_touched(method_file):
        runs, settings = swept(OF_METHOD[-1], places, clip_file, tmp_path)
        assert [run.trainer for run in runs] == ["LearnedAlpha"] * 2 + ["MMRL"] * 2
        for run in runs[:2]:
            assert train.main(command(run, settings)[2:]) == 0
    for run in runs[:2]:
        assert stored_outcome(run, settings).state is State.FINISHED
        assert results_of(folder_of(run, settings))["trainer"] == "LearnedAlpha"


def test_the_data_set_is_trained_on_and_swept(leaves_file, clip_file, tmp_path, capsys):
    write_leaves(tmp_path)
    places = {"leaves.py": leaves_file, "DATA": tmp_path, "output/leaves": tmp_path / "out"}
    training, sweeping = OF_DATA_SET
    tiny = [*TINY, *FOUR_SHOTS, "MODEL.BACKBONE.NAME", clip_file]
    with nothing_touched(leaves_file):
        assert call(training, places, *tiny) == 0
        [run], settings = swept(sweeping, places, clip_file, tmp_path)
        assert train.main(command(run, settings)[2:]) == 0
    results = results_of(tmp_path / "out" / "seed1")
    assert (results["dataset"], results["total"]) == ("Leaves", 9)
    assert results["classnames"] == SPECIES
    assert results["draw_note"] == ""
    assert results["config"]["DATASET.TEMPLATE"] == "a leaf of {}."
    assert "# train_x  12" in (tmp_path / "out" / "seed1" / "log.txt").read_text()  # 4 of 5 a class
    assert results_of(folder_of(run, settings))["accuracy"] == results["accuracy"]
    assert report.main([str(tmp_path / "out"), "--seeds", "1"]) == 0
    assert "leaves" in capsys.readouterr().out


def test_a_yaml_file_beside_the_module_is_read(leaves_file, clip_file, tmp_path):
    leaves_file.with_suffix(".yaml").write_text('DATASET: {TEMPLATE: "dry {}."}\n')
    places = {"leaves.py": leaves_file, "DATA": tmp_path}
    [run], settings = swept(OF_DATA_SET[1], places, clip_file, tmp_path)
    resolved = resolved_config(run, settings)
    assert (resolved["DATASET.NAME"], resolved["DATASET.TEMPLATE"]) == ("Leaves", "dry {}.")


def write_leaves(root):
    rng = np.random.default_rng(0)
    for part, count in (("train", 5), ("test", 3)):
        for label, name in enumerate(SPECIES):
            folder = root / "leaves" / part / name.replace(" ", "_")
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(80 * label, 80 * label + 90, (36, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.mark.slow
def test_whole_sweeps_and_their_report(method_file, leaves_file, clip_file, tmp_path, capfd):
    write_leaves(tmp_path)
    own = ["--trainer-module", str(method_file), "--dataset-module", str(leaves_file)]
    what = ["--methods", "learned_alpha,zeroshot_clip,mmrl", "--datasets", "leaves", "--seeds", "1"]
    where = ["--root", str(tmp_path), "--output", str(tmp_path / "out"), "--backbone", clip_file]
    words = [*own, *what, *where, "--shots", "4", "--", *TINY]
    done = subprocess.run([sys.executable, "scripts/sweep.py", "base_to_novel", *words])
    assert done.returncode == 0
    assert "in one pass over the pictures: LearnedAlpha" in capfd.readouterr().out
    assert report.main([str(tmp_path / "out"), "--seeds", "1"]) == 0
    text = capfd.readouterr().out
    for name in ("zero-shot CLIP", "MMRL", "LearnedAlpha"):
        assert f"Base to novel, other data sets, {name}" in text


@pytest.mark.parametrize(("example", "limit"), [(METHOD, 42), (DATA_SET, 32)])
def test_the_examples_are_as_short_as_the_page_promises(example, limit):
    assert len(example.splitlines()) <= limit
