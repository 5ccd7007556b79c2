"""The shape of the repository: imports point down, every module imports, text stays true."""

import ast
import importlib
import subprocess
import sys

import pytest

from conftest import REPOSITORY

PACKAGES = [
    "clip", "dassl", "datasets", "trainer", "demo", "benchmarks", "scripts", "sweep", "report",
    "fitting",
]  # fmt: skip
ERRORS = "dassl.errors"  # every package raises and explains by it
READER = "dassl.utils.torchfile"  # of torch files; all that clip takes from another package
MAY_IMPORT = {
    "clip": set(),
    "dassl": set(),
    "datasets": {"dassl"},
    "trainer": {"clip", "dassl"},
    "sweep": {"trainer", "datasets"},
    "report": {"trainer", "datasets", "dassl"},
    "fitting": {"clip", "dassl", "datasets", "trainer", "report"},
}
FILES = sorted(p for name in PACKAGES for p in (REPOSITORY / name).rglob("*.py"))


def imported_names(path):
    """Dotted names of what a file imports: modules, or things in them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_imports_point_down(package):
    ours = {*PACKAGES, "train", "predict", "fit"} - MAY_IMPORT[package] - {package}
    wrong = {}
    for path in (REPOSITORY / package).rglob("*.py"):
        names = {name for name in imported_names(path) if name.split(".")[0] in ours}
        names = {name for name in names if not name.startswith(ERRORS)}
        if package == "clip":
            names = {name for name in names if not name.startswith(READER)}
        if names:
            wrong[str(path.relative_to(REPOSITORY))] = sorted(names)
    assert wrong == {}


def test_the_reader_of_torch_files_needs_python_and_torch_alone():
    allowed = {*sys.stdlib_module_names, "torch"} - {"pickle", "pickletools", "importlib"}
    for path in (REPOSITORY / READER.replace(".", "/")).glob("*.py"):
        own = (READER, ERRORS)
        names = {name for name in imported_names(path) if not name.startswith(own)}
        assert {name.split(".")[0] for name in names} <= allowed, path


@pytest.mark.parametrize(
    "name",
    ["dassl/errors.py", "dassl/whole_files.py", "interpreter.py", "options.py", "run_files.py"],
)
def test_what_every_package_may_use_needs_python_alone(name):
    names = imported_names(REPOSITORY / name)
    ours = ("dassl.errors", "dassl.whole_files")
    names = {name.split(".")[0] for name in names if not name.startswith(ours)}
    assert names <= set(sys.stdlib_module_names)


def test_dassl_stands_alone(tmp_path):
    """Other repositories link the folder in beside their own packages."""
    (tmp_path / "dassl").symlink_to(REPOSITORY / "dassl")
    script = (
        "import dassl.engine, dassl.data, dassl.modeling.ops, dassl.utils; print(dassl.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout


@pytest.mark.parametrize("how", ["path", "module"])
@pytest.mark.parametrize("name", ["sweep", "report", "parse_test_res"])
def test_a_command_starts_by_its_path_and_as_a_module(name, how, tmp_path):
    """scripts/sweep.py and scripts/report.py bear the names of packages."""
    words = [str(REPOSITORY / f"scripts/{name}.py")] if how == "path" else ["-m", f"scripts.{name}"]
    cwd = tmp_path if how == "path" else REPOSITORY
    command = [sys.executable, *words, "--help"]
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=True, text=True)
    assert done.stdout.startswith(f"usage: {name}.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_every_module_imports_and_says_what_it_is(path):
    module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts)
    found = importlib.import_module(module.removesuffix(".__init__"))
    assert found.__doc__


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_files_stay_readable_in_length(path):
    assert len(path.read_text().splitlines()) <= 320


@pytest.mark.parametrize("program", ["train.py", "predict.py", "fit.py", "scripts/sweep.py"])
def test_help_answers_without_importing_torch(program):
    command = [sys.executable, "-X", "importtime", program, "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True)
    assert "usage:" in done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "argparse" in imported
    assert "torch" not in imported


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "scripts").glob("[!_]*.py")), ids=lambda p: p.name
)
def test_scripts_started_by_their_path_find_the_repository_first(path):
    ours = {*PACKAGES, "options", "run_files", "train", "predict", "interpreter"}
    imports = [
        n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)
    ]
    names = [n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in imports]
    found = [name for name in names if name.split(".")[0] in ours]
    assert found[:1] in ([], ["interpreter"])  # whose stand-in in scripts/ sets the path


HEAVY = {"matplotlib", "pandas", "sklearn", "skimage", "scipy", "transformers", "open_clip"}


def test_training_imports_no_heavy_package_that_it_does_not_need():
    code = "import sys, datasets, trainer; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True)
    assert "trainer" in done.stdout.split()
    assert HEAVY & set(done.stdout.split()) == set()
