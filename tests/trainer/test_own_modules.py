"""Files outside the repository: loaded once, found by any process, answered for in a sentence."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import datasets  # noqa: F401  registers the readers
import predict
import train
from clip import tokenize
from clip.model import CLIP
from conftest import REPOSITORY, TINY_OPTIONS, train_arguments
from dassl.data.datasets import DATASET_REGISTRY
from dassl.engine import TRAINER_REGISTRY
from dassl.errors import RequestError
from dassl.utils import load_checkpoint
from scripts.one_run import own_modules
from sweep.choices import find_dataset, find_method
from sweep.runs import list_runs
from trainer import config, load
from trainer.checkpoints import __main__ as checkpoint_tool
from trainer.config import build_config
from trainer.method.build import build_mmrl
from trainer.method.model import Adaptation
from trainer.method.start_values import draw_start_values
from trainer.methods import config_file_of, parents_of
from trainer.own_modules import files_of, load_module, load_modules

ONE_MAP = Path(__file__).parents[1] / "one_map.py"
PLAIN = """
from dassl.engine import TRAINER_REGISTRY
from trainer.trainers import {parent}

@TRAINER_REGISTRY.register()
class {name}({parent}):
    pass
"""
DATA = """
from dassl.data.datasets import DATASET_REGISTRY
from datasets.base import Reader

@DATASET_REGISTRY.register()
class {name}(Reader):
    pass
"""
DECLARED = 'from trainer.config import add_method\nadd_method("{name}", {values})\n'


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    for registry in (TRAINER_REGISTRY, DATASET_REGISTRY):
        monkeypatch.setattr(registry, "_objects", dict(registry._objects))
    monkeypatch.setattr(config, "_METHODS", dict(config._METHODS))


def trainer_file(folder, name, parent="MMRL", head="", stem=""):
    path = folder / f"{stem or name.lower()}.py"
    path.write_text(head + PLAIN.format(name=name, parent=parent))
    return str(path)


def test_a_file_is_executed_once_and_leaves_no_bytecode(tmp_path):
    path = trainer_file(tmp_path, "Once")
    (tmp_path / "link.py").symlink_to(path)
    module = load_module(path)
    assert load_module(str(tmp_path / "link.py")) is module
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.py", "once.py"]
    Path(path).write_text(Path(path).read_text() + "# edited\n")
    with pytest.raises(RequestError, match=r"once\.py has changed since it was loaded; start"):
        load_module(path)


def test_another_process_finds_the_file_by_the_name_of_its_module(tmp_path):
    folder = tmp_path / "with a.dot, blanks and Ü"
    folder.mkdir()
    pickled = pickle.dumps(load_module(trainer_file(folder, "Travels")).Travels)
    code = f"import pickle; print(pickle.loads({pickled!r}).__mro__[1].__name__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True)
    assert done.stdout.split() == [b"MMRL"], done.stderr


WRONG = {
    "there is no file": (None, r"There is no file '.*wrong\.py'"),
    "no Python": ("x = 1\nclass\n", r"wrong\.py, line 2: invalid syntax"),
    "zero byte": ("x = '\0'\n", r"wrong\.py.*: source code string cannot contain null bytes"),
    "import": ("import os\nimport no_such_module\n", r"wrong\.py, line 2: No module named 'no_s"),
    "name": (
        "from trainer.config import no_such_name\n",
        r"wrong\.py, line 1: cannot import name 'no_such_name'.*; install it, or correct the imp",
    ),
    "taken name": (
        PLAIN.format(name="MMRLpp", parent="MMRL"),
        r"wrong\.py, line 5: .*'MMRLpp' is already registered in 'TRAINER', by .*trainers\.py; ch",
    ),
    "taken node": (
        DECLARED.format(name="MMRL", values="ALPHA=0.1"),
        r"wrong\.py, line 2: TRAINER\.MMRL already exists in .*trainers\.py; choose another name",
    ),
    "nothing": ("x = 1\n", r"wrong\.py registers no trainer; put @TRAINER_REGISTRY\.register\(\)"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_is_wrong_with_a_file_is_one_sentence(kind, tmp_path):
    text, message = WRONG[kind]
    path = tmp_path / "wrong.py"
    if text is not None:
        path.write_text(text)
    error = RequestError if text is not None else FileNotFoundError
    with pytest.raises(error, match=message) as found:
        load_modules([str(path)])
    assert "\n" not in str(found.value)


def test_two_files_of_one_name_are_both_named(tmp_path):
    first = trainer_file(tmp_path, "Twin", stem="first")
    load_modules([first])
    second = trainer_file(tmp_path, "Twin", stem="second")
    with pytest.raises(RequestError, match=rf"second\.py, line 5: .*, by {first}; choose another"):
        load_modules([second])


def test_a_file_that_fails_registers_nothing_and_can_be_mended(tmp_path):
    head = DECLARED.format(name="Mended", values="ALPHA=0.1")
    path = Path(trainer_file(tmp_path, "Mended", head=head))
    whole = path.read_text()
    path.write_text(whole + "import no_such_module\n")
    with pytest.raises(RequestError, match=r"line 10: No module named"):
        load_modules([str(path)])
    path.write_text(whole)
    load_modules([str(path)])
    assert build_config("Mended")[0].TRAINER.Mended.ALPHA == 0.1


def test_a_bug_in_a_file_keeps_its_traceback(tmp_path):
    path = tmp_path / "bug.py"
    path.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_modules([str(path)])


def test_a_method_has_its_parents_values_unless_it_declares_or_is_given_others(tmp_path):
    head = DECLARED.format(name="Child", values="BETA=0.35, OWN=2")
    load_modules([trainer_file(tmp_path, "Child", "MMRLpp", head)])
    load_modules([trainer_file(tmp_path, "Grandchild", "MMRLpp")])
    options = ["TRAINER.MMRLpp.ALPHA", "0.2", "TRAINER.Child.PREC", "fp16"]
    eurosat = str(REPOSITORY / "configs/datasets/eurosat.yaml")
    yaml = str(config_file_of("Child", "vit_b16"))
    assert yaml.endswith("configs/trainers/MMRLpp/vit_b16.yaml")
    cfg, origins = build_config("Child", eurosat, yaml, opts=options)
    node = cfg.TRAINER.Child
    assert (node.BETA, node.OWN, node.ALPHA) == (0.35, 2, 0.2)
    assert node.PREC == "fp16"  # the default, but given: it is not MMRL++'s amp
    assert node.REP_LAYERS == cfg.TRAINER.MMRLpp.REP_LAYERS != []
    assert origins["TRAINER.Child.REG_WEIGHT"] == "the paper's value for EuroSAT"
    assert cfg.TRAINER.Grandchild.BETA == 0.9  # of a trainer that does not run: the defaults
    assert parents_of("Child") == ["MMRLpp"]


def test_across_data_sets_a_child_of_mmrlpp_takes_each_ones_own_beta(tmp_path):
    load_modules([trainer_file(tmp_path, "Crossing", "MMRLpp")])
    load_modules(
        [
            trainer_file(
                tmp_path, "Fixed", "MMRLpp", DECLARED.format(name="Fixed", values="BETA=0.5")
            )
        ]
    )
    keys = config.keys_of_paper("Crossing", "DescribableTextures", "CD")
    assert {"TRAINER.Crossing.BETA", "TRAINER.MMRLpp.BETA"} <= keys
    assert "TRAINER.Fixed.BETA" not in config.keys_of_paper("Fixed", "DescribableTextures", "CD")


def test_sweeps_find_registered_names_in_any_spelling(tmp_path):
    load_modules([trainer_file(tmp_path, "TwoWords")])
    names = [find_method(word) for word in ("two_words", "TwoWords", "mmrl", "zeroshot_clip")]
    assert names == ["TwoWords", "TwoWords", "MMRL", "ZeroshotCLIP"]
    with pytest.raises(RequestError, match=r"Unknown method 'three'; choose from .*TwoWords"):
        find_method("three")
    with pytest.raises(RequestError, match="Unknown data set 'three'; choose from caltech101"):
        find_dataset("three")


def test_one_run_takes_the_options_anywhere_and_keeps_the_order_of_other_words(tmp_path):
    words = [
        "few_shot",
        "train",
        "mine",
        "dtd",
        "1",
        "--dataset-module",
        "b.py",
        "16",
        "SEED",
        "-1",
    ]
    own, others = own_modules(["--trainer-module", str(tmp_path / "a.py"), *words])
    assert others == ["few_shot", "train", "mine", "dtd", "1", "16", "SEED", "-1"]
    assert own.trainer_module == [str(tmp_path / "a.py")]
    assert own.dataset_module == [str(Path.cwd() / "b.py")]  # runs are started from elsewhere


@pytest.mark.parametrize(
    ("says", "commands"),
    [
        ("learns = False", ["--eval-only", "--eval-only"]),
        ("takes_new_classes = False", [""]),
        ("pass", ["", "--model-dir"]),
    ],
)
def test_a_trainer_says_what_a_sweep_can_ask_of_it(says, commands, tmp_path):
    path = Path(trainer_file(tmp_path, "Says"))
    path.write_text(path.read_text().replace("pass", says))
    load_modules([str(path)])
    runs = list_runs("base_to_novel", ["says"], ["eurosat"], [1])
    words = [run.arguments("DATA", "", "", []) for run in runs]
    found = [
        next((word for word in line if word in ("--model-dir", "--eval-only")), "")
        for line in words
    ]
    assert found == commands
    assert all("configs/trainers/MMRL/vit_b16.yaml" in line for line in words)


def test_what_a_run_is_of_names_the_files_of_its_trainer_and_of_what_that_derives_from(tmp_path):
    first = load_module(trainer_file(tmp_path, "Older"))
    text = PLAIN.format(name="Newer", parent="Older").replace("trainer.trainers", first.__name__)
    (tmp_path / "newer.py").write_text(text)
    newer = load_module(str(tmp_path / "newer.py")).Newer
    assert list(files_of(newer)) == ["newer.py", "older.py"]
    assert list(files_of(TRAINER_REGISTRY.get("MMRL"))) == []


def test_what_a_run_has_learned_stays_when_its_trainer_loads_another(clip_state):
    """Several evaluations of one pass hold an adaptation each, a learned alpha in it."""
    frozen = CLIP.from_state_dict(clip_state)
    sizes = {"num_tokens": 2, "rep_dim": 8, "rep_layers": [3, 4], "alpha": 0.5}
    model = build_mmrl(frozen, tokenize(["a cat", "a dog"]), **sizes)
    model.alpha = torch.nn.Parameter(torch.tensor(1.0))
    draw_start_values(model.learner, frozen.sizes)
    shared = model.image_encoder.shared(torch.rand(2, 3, 32, 32))
    adaptation = Adaptation(*(part.detach().clone() for part in model.adaptation()))
    model.alpha.data.zero_()
    before, now = model.classify(shared, adaptation), model.classify(shared, model.adaptation())
    assert torch.equal(before.fusion, before.logits)
    assert torch.equal(now.fusion, now.logits_rep)


def test_a_method_of_another_learner_is_stored_and_asked_for(
    eurosat_root, clip_file, tmp_path, monkeypatch, capsys
):
    """The module is given where the trainer is made, and its name is all that files know of it."""
    arguments = train_arguments(eurosat_root, tmp_path / "run", clip_file, "OneMap")
    arguments[arguments.index("--config-file") + 1] = str(config_file_of("MMRL", "vit_b16"))
    arguments += ["OPTIM.MAX_EPOCH", "1"]
    known = dict(TRAINER_REGISTRY._objects), dict(config._METHODS)
    assert train.main(["--trainer-module", str(ONE_MAP), *arguments]) == 0
    path = tmp_path / "run" / "MultiModalRepresentationLearner" / "model.pth.tar-1"
    state = load_checkpoint(str(path))["state_dict"]
    assert state["learner.to_image.map"].shape == (16, 64)
    assert state["learner.to_text.offset"].abs().max() > 0  # it started at 0
    monkeypatch.setattr(TRAINER_REGISTRY, "_objects", known[0])  # as in another process
    monkeypatch.setattr(config, "_METHODS", known[1])
    capsys.readouterr()
    picture = str(next(eurosat_root.rglob("*.jpg")))
    evaluation = ["--eval-only", "--model-dir", str(tmp_path / "run"), *TINY_OPTIONS]
    assert train.main(evaluation) == predict.main([str(tmp_path / "run"), picture]) == 2
    errors = capsys.readouterr().err.splitlines()
    wanted = "was trained by OneMap, which is not known here; give --trainer-module one_map.py"
    assert [wanted in line for line in errors] == [True, True]
    with pytest.raises(RequestError, match=wanted):
        load(str(tmp_path / "run"))
    assert checkpoint_tool.main(["describe", str(tmp_path / "run")]) == 0
    assert "learner.to_image.map: 16 x 64" in capsys.readouterr().out
