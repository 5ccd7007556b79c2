"""The examples of CONTRIBUTING.md are what they claim: they are taken from the page and run."""

import importlib.util
import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image

import datasets  # noqa: F401  registers the readers before an example does
import train
from conftest import EUROSAT_CLASSES, REPOSITORY, TINY_OPTIONS
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from trainer import config

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text()
METHOD, DATA_SET = re.findall(r"```python\n(.*?)```", TEXT, flags=re.S)
COMMAND = next(
    block for block in re.findall(r"```bash\n(.*?)```", TEXT, flags=re.S) if "train.py" in block
)
SPECIES = ["oak", "red maple", "silver birch"]


@pytest.fixture(autouse=True)
def forget_examples(monkeypatch):
    """What the examples register is gone after the test."""
    for registry in (TRAINER_REGISTRY, DATASET_REGISTRY):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    monkeypatch.setattr(config, "_METHODS", dict(config._METHODS))


def import_example(source, folder):
    path = folder / "example.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location("example", path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


def arguments(root, out, clip_file, *options):
    """The page's own command, on the tiny world."""
    words = shlex.split(COMMAND.replace("\\\n", " "), comments=True)
    words = words[words.index("train.py") + 1 :]
    words[words.index("--root") + 1] = str(root)
    words[words.index("--output-dir") + 1] = str(out)
    return ["--backbone", clip_file, *words, *TINY_OPTIONS, "OPTIM.MAX_EPOCH", "1", *options]


def results_of(out):
    return json.loads((out / "results.json").read_text())


def test_the_method_trains_and_its_checkpoint_gives_the_same_figures(
    eurosat_root, clip_file, tmp_path, monkeypatch
):
    monkeypatch.chdir(REPOSITORY)
    import_example(METHOD, tmp_path)
    tiny = [f"TRAINER.OneMap.{word}" for word in ("PREC", "REP_LAYERS", "REP_DIM")]
    options = [word for pair in zip(tiny, ("fp32", "[2,3,4]", "16"), strict=True) for word in pair]
    out, again = tmp_path / "run", tmp_path / "again"
    assert train.main(arguments(eurosat_root, out, clip_file, *options)) == 0
    results = results_of(out)
    assert (results["trainer"], results["precision"], results["total"]) == ("OneMap", "fp32", 30)
    assert results["config"]["TRAINER.OneMap.STD"] == 0.02
    assert results["origins"]["TRAINER.OneMap.REG_WEIGHT"] == "the command line"
    assert results["classnames"] == EUROSAT_CLASSES
    evaluate = ["--eval-only", "--model-dir", str(out)]
    assert train.main([*evaluate, *arguments(eurosat_root, again, clip_file, *options)]) == 0
    assert results_of(again)["accuracy"] == results["accuracy"]


def test_the_checkpoint_has_what_the_method_learned(eurosat_root, clip_file, tmp_path, monkeypatch):
    from dassl.utils import load_checkpoint

    monkeypatch.chdir(REPOSITORY)
    import_example(METHOD, tmp_path)
    shape = ["TRAINER.OneMap.PREC", "fp32", "TRAINER.OneMap.REP_LAYERS", "[3,4]"]
    out = tmp_path / "run"
    assert train.main(arguments(eurosat_root, out, clip_file, *shape)) == 0
    path = out / "MultiModalRepresentationLearner" / "model.pth.tar-1"
    state = load_checkpoint(str(path))["state_dict"]
    assert state["learner.to_image.map"].shape == (512, 64)
    assert state["learner.to_text.offset"].shape == (2, 1, 64)
    assert state["learner.to_text.offset"].abs().max() > 0  # it started at 0


def test_a_method_cannot_take_a_name_that_exists():
    with pytest.raises(ValueError, match=r"TRAINER\.MMRL already exists; choose another name"):
        config.add_method("MMRL", STD=0.1)


def write_leaves(root):
    rng = np.random.default_rng(0)
    for part, count in (("train", 5), ("test", 3)):
        for label, name in enumerate(SPECIES):
            folder = root / "leaves" / part / name.replace(" ", "_")
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(80 * label, 80 * label + 90, (36, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")


def test_the_data_set_is_drawn_from_and_trained_on(clip_file, tmp_path, monkeypatch):
    monkeypatch.chdir(REPOSITORY)
    import_example(DATA_SET, tmp_path)
    write_leaves(tmp_path)
    out = tmp_path / "run"
    method = ["PREC", "fp32", "REP_LAYERS", "[3,4]", "REP_DIM", "16"]
    options = [f"TRAINER.MMRL.{w}" if i % 2 == 0 else w for i, w in enumerate(method)]
    words = arguments(tmp_path, out, clip_file, "DATASET.NAME", "Leaves", *options)
    words[words.index("OneMap")] = "MMRL"
    drop = words.index("TRAINER.OneMap.REG_WEIGHT")
    assert train.main(words[:drop] + words[drop + 2 :]) == 0
    results = results_of(out)
    assert (results["dataset"], results["total"]) == ("Leaves", 9)
    assert results["classnames"] == SPECIES
    assert results["draw_note"] == ""
    assert "# train_x  12" in (out / "log.txt").read_text()  # 4 shots of 5 pictures a class


@pytest.mark.parametrize(("example", "limit"), [(METHOD, 48), (DATA_SET, 30)])
def test_the_examples_are_as_short_as_the_page_promises(example, limit):
    assert len(example.splitlines()) <= limit
