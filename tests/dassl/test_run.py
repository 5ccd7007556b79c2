"""`python -m dassl.run`: a repository written for Dassl, with packages named as ours are."""

import ast
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import dassl
from conftest import REPOSITORY
from dassl.only import dassl as found_by_path

MADE_UP = Path(__file__).with_name("repository")
BY_MODULE, BY_PATH = ["-m", "dassl.run"], [str(REPOSITORY / "dassl" / "run.py")]


@pytest.fixture
def repository(tmp_path):
    return Path(shutil.copytree(MADE_UP, tmp_path / "their repository"))


def run(words, cwd, how=BY_MODULE, **variables):
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(
        [sys.executable, *how, *map(str, words)], cwd=cwd, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("process", ["here", "program", "fork", "spawn", "forkserver"])
def test_of_ours_only_dassl_is_found(process, repository):
    """In the script, in its child processes however started, and in programs that it calls."""
    done = run([repository, "whose.py", process], REPOSITORY)
    assert done.returncode == 7, done.stderr  # the script's own
    found = ast.literal_eval(done.stdout)["found"]
    assert found.pop("dassl.errors") == str(REPOSITORY / "dassl" / "errors.py")
    theirs = {name: found.pop(name) for name in ("clip", "datasets", "trainers")}
    assert theirs == {name: str(repository / name / "__init__.py") for name in theirs}
    assert set(found.values()) == {None}  # trainer, sweep, options


@pytest.mark.parametrize(
    ("how", "path"), [(BY_MODULE, [str(REPOSITORY), "/x"]), (BY_PATH, []), (["-P", *BY_PATH], [])]
)
def test_it_runs_from_any_folder_with_the_script_s_own_arguments(how, path, repository):
    if "-P" in how and sys.version_info < (3, 11):
        pytest.skip("this Python has no -P")
    words = [repository.name, "whose.py", "program", "--seed", "1", "--", "-h"]
    done = run(words, repository.parent, how, PYTHONPATH=os.pathsep.join(path))
    assert done.returncode == 7, done.stderr
    seen = ast.literal_eval(done.stdout)
    assert seen["argv"] == [str(repository / "whose.py"), *words[2:]]
    assert seen["cwd"] == str(repository)
    assert seen["found"]["clip"] == str(repository / "clip" / "__init__.py")
    assert seen["found"]["trainer"] is None


def test_what_a_script_raises_is_its_own(repository):
    (repository / "wrong.py").write_text("open('absent.yaml')\n")
    done = run([repository, "wrong.py"], REPOSITORY)
    assert done.returncode == 1
    assert "Traceback" in done.stderr and "absent.yaml" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["absent", "train.py"], "error: No repository at 'absent': give the folder of train.py"),
        (["their", "run.py"], "No script 'run.py' in {}/their; those at its top: main.py"),
        (["their"], "the following arguments are required: SCRIPT"),
        (["owner", "main.py"], "error: {}/owner/dassl is a dassl of the repository's own, which"),
    ],
)
def test_wrong_requests_are_answered(words, message, tmp_path):
    for name in ("their", "owner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "main.py").write_text("")
    (tmp_path / "owner" / "dassl").mkdir()
    done = run(words, tmp_path, BY_PATH)
    assert done.returncode == 2
    assert message.format(tmp_path) in done.stderr
    assert "Traceback" not in done.stderr


def test_a_link_to_this_dassl_is_no_other_one(repository):
    (repository / "dassl").symlink_to(REPOSITORY / "dassl")
    assert run([repository, "whose.py", "here"], REPOSITORY).returncode == 7


def test_both_doors_to_the_package_say_one_version():
    assert found_by_path.__version__ == dassl.__version__
    assert list(found_by_path.__path__) == list(dassl.__path__)


def train(repository, out, *options):
    seen = out.with_suffix(".seen")
    words = [
        "--root",
        out.parent,
        "--output-dir",
        out,
        "--config-file",
        "configs/trainers/probe.yaml",
    ]
    done = run(
        [repository, "train.py", *words, "--trainer", "Probe", "--seed", "1", *options],
        out.parent, BY_PATH, SEEN=str(seen),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return sorted(set(seen.read_text().splitlines()))


@pytest.fixture
def shapes(tmp_path):
    rng = np.random.default_rng(0)
    for label, name in enumerate(["circle", "ring", "square"]):
        folder = tmp_path / "shapes" / "images" / name
        folder.mkdir(parents=True)
        for number in range(4):
            pixels = rng.normal(80 * label + 40, 20, (9, 8, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.mark.usefixtures("shapes")
@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_a_repository_of_the_family_trains_and_evaluates(method, repository, tmp_path):
    out = tmp_path / "out"
    seen = train(repository, out, "--start-method", method, "TRAINER.PROBE.PREC", "fp32")
    mains = {"fork": ["__main__"], "spawn": ["__main__", "__mp_main__"]}[method]
    assert seen == [f"{name} {repository}/datasets/shapes.py" for name in mains]
    log = (out / "log.txt").read_text()
    assert "epoch [2/2] batch [3/3]" in log and "\nFinish training\n" in log and "=> result" in log
    state = torch.load(out / "prompt_learner" / "model.pth.tar-2")["state_dict"]
    assert state["weight"].shape == (3, 16)
    if method == "spawn":  # the same pictures, in processes that were started anew
        other = tmp_path / "other"
        train(repository, other, "TRAINER.PROBE.PREC", "fp32")
        again = torch.load(other / "prompt_learner" / "model.pth.tar-2")["state_dict"]
        assert all(torch.equal(again[key], state[key]) for key in state)


@pytest.mark.slow
@pytest.mark.usefixtures("shapes")
def test_a_checkpoint_of_such_a_run_is_evaluated(repository, tmp_path):
    out, evaluated = tmp_path / "out", tmp_path / "evaluated"
    train(repository, out)
    train(repository, evaluated, "--eval-only", "--model-dir", out, "--load-epoch", "2")
    results = [
        (path / "log.txt").read_text().partition("=> result")[2] for path in (out, evaluated)
    ]
    assert results[0].splitlines()[:4] == results[1].splitlines()[:4]


RECIPES = (REPOSITORY / "docs" / "recipes.md").read_text()


@pytest.mark.parametrize("name", ["CoOp", "CoCoOp", "MaPLe", "PromptSRC"])
def test_a_recipe_s_command_gives_full_paths_and_known_keys(name):
    block = RECIPES.partition(f"## {name}\n")[2].partition("```bash\n")[2].partition("```")[0]
    clone, words = (shlex.split(part) for part in block.replace("\\\n", " ").strip().split("\n"))
    assert words[:4] == ["python", "-m", "dassl.run", clone[-1]]
    assert words[words.index("--trainer") + 1] == name
    assert all(words[words.index(o) + 1].startswith("/") for o in ("--root", "--output-dir"))
