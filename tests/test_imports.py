"""The shape of the repository: imports point down, every module imports, text stays true."""

import ast
import importlib
import subprocess
import sys
import time

import pytest

from conftest import REPOSITORY

PACKAGES = ["clip", "dassl", "datasets", "trainer", "demo", "benchmarks", "scripts", "sweep"]
MAY_IMPORT = {
    "clip": set(),
    "dassl": set(),
    "datasets": {"dassl"},
    "trainer": {"clip", "dassl"},
}
FILES = sorted(p for name in PACKAGES for p in (REPOSITORY / name).rglob("*.py"))


def imported_packages(path):
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names & {*PACKAGES, "train", "predict"}


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_down(package):
    allowed = MAY_IMPORT[package] | {package}
    wrong = {
        str(path.relative_to(REPOSITORY)): sorted(imported_packages(path) - allowed)
        for path in (REPOSITORY / package).rglob("*.py")
        if imported_packages(path) - allowed
    }
    assert wrong == {}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_every_module_imports_and_says_what_it_is(path):
    module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    found = importlib.import_module(module.removesuffix(".__init__"))
    assert found.__doc__


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_files_stay_readable_in_length(path):
    assert len(path.read_text().splitlines()) <= 320


def test_help_answers_at_once():
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "train.py", "--help"], cwd=REPOSITORY, capture_output=True, check=True
    )
    assert b"--dataset-config-file" in done.stdout
    assert time.perf_counter() - start < 2
