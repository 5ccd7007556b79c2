"""ARCHITECTURE.md, dassl/README.md, CITATION.cff and the CI file say what is true of the code."""

import re

import pytest
import yaml

from conftest import REPOSITORY
from test_imports import MAY_IMPORT

ARCHITECTURE = (REPOSITORY / "ARCHITECTURE.md").read_text()
WORKFLOW = yaml.safe_load((REPOSITORY / ".github/workflows/ci.yml").read_text())
PAGES = ["ARCHITECTURE.md", "CONTRIBUTING.md", "dassl/README.md"]
FOLDERS = "clip|configs|dassl|datasets|demo|benchmarks|report|scripts|sweep|tests|trainer|docs"
# Made by whoever follows the page, so they are not there.
EXAMPLES = {"trainer/one_map.py", "datasets/leaves.py", "configs/datasets/leaves.yaml"}


@pytest.mark.parametrize("page", PAGES)
def test_named_files_exist(page):
    text = (REPOSITORY / page).read_text()
    named = set(re.findall(rf"`((?:{FOLDERS})/[\w/.]*)`", text))
    named |= {link.partition("#")[0] for link in re.findall(r"\]\((?!http)([^)]+)\)", text)}
    assert named
    assert [name for name in sorted(named - EXAMPLES) if not (REPOSITORY / name).exists()] == []


def test_the_table_of_imports_is_the_one_that_is_tested():
    section = ARCHITECTURE.partition("## Who may import whom")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section, flags=re.M)
    told = {name: set(re.findall(r"`(\w+)`", allowed)) for name, allowed in rows}
    assert told == MAY_IMPORT


def steps_of(job):
    return [step["run"] for step in WORKFLOW["jobs"][job]["steps"] if "run" in step]


def test_the_workflow_runs_the_two_commands_and_lint_on_both_pythons():
    runs = steps_of("demo-and-test")
    assert runs[1:3] == ["make demo PYTHON=python", "make test PYTHON=python"]
    assert steps_of("lint") == ["make lint PYTHON=python"]
    matrix = WORKFLOW["jobs"]["demo-and-test"]["strategy"]["matrix"]["include"]
    assert [(row["python"], "torch" in row) for row in matrix] == [
        ("3.10", False), ("3.13", False), ("3.10", True),
    ]  # fmt: skip


def test_the_workflow_s_oldest_torch_is_that_of_the_requirements():
    matrix = WORKFLOW["jobs"]["demo-and-test"]["strategy"]["matrix"]["include"]
    oldest = re.findall(r"(\w+)==([\d.]+)\.\*", matrix[-1]["torch"])
    wanted = (REPOSITORY / "requirements.txt").read_text()
    assert oldest == re.findall(r"^(torch|torchvision)>=([\d.]+)$", wanted, flags=re.M)


def test_the_citation_names_the_papers_of_the_readme():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    readme = " ".join((REPOSITORY / "README.md").read_text().split())
    assert citation["cff-version"] == "1.2.0"
    for paper in citation["references"]:
        assert f"{{{paper['title']}}}" in readme
        assert [author["family-names"] for author in paper["authors"]] == ["Guo", "Gu"]
