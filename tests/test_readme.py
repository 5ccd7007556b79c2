"""What the README says can be typed: commands parse, targets and files exist."""

import re
import shlex

import pytest

import train
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


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("make")])
def test_make_targets_exist(command):
    target = shlex.split(command, comments=True)[1]
    assert f"\n{target}:" in (REPOSITORY / "Makefile").read_text()


def test_linked_and_named_files_exist():
    named = re.findall(r"\]\(((?!http)[^)]+)\)", TEXT) + re.findall(
        r"`((?:tests|demo)/[^`]+)`", TEXT
    )
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
    assert len(TEXT.splitlines()[:25]) == 25
    assert "make demo" in "\n".join(TEXT.splitlines()[:25])
