"""What the README says can be typed: commands parse, targets and files exist."""

import re
import shlex

import pytest

import train
from benchmarks import table
from conftest import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text()
BLOCKS = re.findall(r"```bash\n(.*?)```", TEXT, flags=re.S)
COMMANDS = [
    line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines() if line.strip()
]


@pytest.mark.parametrize("command", [c for c in COMMANDS if "train.py" in c])
def test_train_commands_resolve(command):
    words = shlex.split(command, comments=True)
    args = train.build_parser().parse_args(words[words.index("train.py") + 1 :])
    cfg, _ = train.resolve(args)
    assert cfg.DATASET.ROOT == "DATA"


@pytest.mark.parametrize("command", [c for c in COMMANDS if "scripts/" in c or ".sh" in c])
def test_named_scripts_exist_and_know_their_options(command):
    words = shlex.split(command, comments=True)
    script = next(word for word in words if word.endswith((".py", ".sh")))
    assert (REPOSITORY / script).is_file()
    source = script if script.endswith(".py") else "scripts/sweep.py"
    text = (REPOSITORY / source).read_text()
    assert [word for word in words if word.startswith("--") and word not in text] == []


def test_the_table_of_speed_is_made_from_its_files():
    assert table.in_readme() == table.make_table()


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_make_targets_exist(command):
    target = shlex.split(command, comments=True)[1]
    assert f"\n{target}:" in (REPOSITORY / "Makefile").read_text()


def test_the_environment_is_activated_before_its_python_is_called():
    activation = COMMANDS.index(next(c for c in COMMANDS if c.startswith("source .venv/bin/act")))
    assert COMMANDS[activation - 1].startswith("make demo")
    assert [c for c in COMMANDS[:activation] if re.search(r"\bpython|\.sh\b|\bpip\b", c)] == []


def test_linked_and_named_files_exist():
    named = re.findall(r"\]\(((?!http)[^)]+)\)", TEXT) + re.findall(
        r"`((?:tests|demo)/[^`]+)`", TEXT
    )
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
    assert len(TEXT.splitlines()[:25]) == 25
    assert "make demo" in "\n".join(TEXT.splitlines()[:25])
