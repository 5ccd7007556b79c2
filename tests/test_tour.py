"""docs/tour.ipynb: its cells compile and name what is public; a slow test runs them."""

import ast
import json
import subprocess

import pytest

import trainer
from conftest import REPOSITORY
from demo.data import write_data
from demo.pretrain import WEIGHTS, expand
from demo.run import command
from trainer.predictor import Predictor

NOTEBOOK = REPOSITORY / "docs" / "tour.ipynb"
CELLS = json.loads(NOTEBOOK.read_text())["cells"]
CODE = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"]
MODELS = {"model", "more"}  # what the cells call the objects that `load` returns


def test_the_cells_take_public_names_alone():
    tree = ast.parse("\n".join(CODE))
    modules = {
        (node.module, alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {name for module, name in modules if module == "trainer"} <= set(trainer.__all__)
    ours = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")}
    assert {module for module, _ in modules if module.split(".")[0] in ours} == {"trainer"}
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id in MODELS
    }
    documented = {name for name in used if f"{name}:" in (Predictor.__doc__ or "")}
    assert {"predict", "features", "rep_features", "text_features", "logits"} <= used
    assert used - documented - vars(Predictor).keys() == set()
    assert not any(name.startswith("_") for name in used)


def test_no_output_is_kept():
    assert not any(cell.get("outputs") for cell in CELLS)


@pytest.mark.slow
def test_the_tour_runs_on_the_demo_s_model(tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    write_data(tmp_path / "data")
    expand(WEIGHTS, tmp_path / "tiny_clip.safetensors")
    words = [*command(tmp_path, "MMRL", "base", 1), "OPTIM.MAX_EPOCH", "1"]
    subprocess.run(words, cwd=REPOSITORY, check=True, capture_output=True)
    monkeypatch.setenv("DEMO", str(tmp_path))
    tour = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(NOTEBOOK.parent)}}  # where a notebook is started
    nbclient.NotebookClient(tour, timeout=300, resources=resources).execute()
    outputs = [output for cell in tour.cells for output in cell.get("outputs", [])]
    printed = "".join(output.get("text", "") for output in outputs)
    assert "8 classes, read from the fusion\n" in printed
    assert (
        "8 trained classes and the class feature of 1 new class, in one softmax\nTrue\n" in printed
    )
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
