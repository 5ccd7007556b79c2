"""Our draws against published hashes: the table itself, what is said, and where it is kept."""

import csv
import hashlib
import json
from collections import Counter

import pytest

from conftest import GOLDEN, build_cfg
from dassl.data.datasets import build_dataset
from datasets import draws
from datasets.catalog import CATALOG
from scripts.check_data import main

FEWSHOT = json.loads((GOLDEN / "fewshot.json").read_text())
CASES = [case for case in FEWSHOT["cases"] if case["subsample"] == "all"]


@pytest.fixture
def root(tmp_path):
    """The golden split as a EuroSAT tree."""
    (tmp_path / "eurosat").mkdir()
    (tmp_path / "eurosat" / "split_zhou_EuroSAT.json").write_text(json.dumps(FEWSHOT["split"]))
    for rows in FEWSHOT["split"].values():
        for name, _, _ in rows:
            path = tmp_path / "eurosat" / "2750" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return tmp_path


def hash_of(rows):
    """As the lists were hashed: label, tab, path below the data set's folder, newline."""
    text = "".join(f"{label}\t2750/{path}\n" for path, label, _ in rows)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A published table of the golden picks; returns what writes it with one row changed."""
    path = tmp_path / "published.csv"

    def write(change=lambda row: None):
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, ["dataset", "shots", "seed", "part", "count", "sha256"])
            writer.writeheader()
            for case in CASES:
                for part in ("train", "val"):
                    rows = case[part]
                    row = {"dataset": "eurosat", "part": part, "count": len(rows)}
                    row |= {"shots": case["shots"], "seed": case["seed"], "sha256": hash_of(rows)}
                    change(row)
                    writer.writerow(row)
        draws._read_published.cache_clear()

    monkeypatch.setattr(draws, "PUBLISHED_FILE", path)
    write()
    yield write
    draws._read_published.cache_clear()


def test_the_table_has_every_list_that_was_published():
    with open(draws.PUBLISHED_FILE, newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len({tuple(row.values())[:4] for row in rows}) == 324
    counts = Counter(row["dataset"] for row in rows)
    assert counts.pop("imagenet") == 24  # its 16 shots were not published
    assert set(counts.values()) == {30}
    classes = {entry.config: entry.classes for entry in CATALOG}
    for row in rows:
        shots = int(row["shots"]) if row["part"] == "train" else min(int(row["shots"]), 4)
        assert 0 < int(row["count"]) <= shots * classes[row["dataset"]]
        assert len(bytes.fromhex(row["sha256"])) == 32


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c['shots']}-seed{c['seed']}")
def test_the_golden_picks_have_the_hash_of_their_lines(root, table, capsys, case):
    data = build_dataset(build_cfg(root, case["shots"], "base", seed=case["seed"]))
    want = (
        f"The draw equals the published one ({len(case['train'])} train, {len(case['val'])} val)."
    )
    assert data.draw_note == want
    assert want in capsys.readouterr().out.splitlines()


def shorten(row):
    row["count"] -= row["part"] == "val"


def other_hash(row):
    row["sha256"] = "0" * 64 if row["part"] == "train" else row["sha256"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (shorten, "val has 23 pictures, not 22."),
        (other_hash, "train has other pictures, labels or another order."),
    ],
)
def test_a_difference_is_told(root, table, capsys, change, said):
    table(change)
    data = build_dataset(build_cfg(root, 4, "all"))
    assert data.draw_note == (
        f"The draw differs from the published one: {said} "
        "The lists that it was drawn from are different."
    )
    assert data.draw_note in capsys.readouterr().out


@pytest.mark.parametrize(("shots", "seed"), [(4, 7), (3, 1), (-1, 1), (4, -1)])
def test_where_nothing_was_published_nothing_is_said(root, table, capsys, shots, seed):
    assert build_dataset(build_cfg(root, shots, "all", seed=seed)).draw_note == ""
    assert "published" not in capsys.readouterr().out


def test_imagenet_s_lists_follow_another_rule_and_are_not_compared():
    assert draws.published_settings("ImageNet") == draws.published_settings("Folder") == []
    assert len(draws.published_settings("EuroSAT")) == 15
    assert draws.published_draw("ImageNet", 1, 1) == {}


def test_check_data_counts_the_draws_that_are_equal(root, table, capsys):
    main(["--root", str(root), "eurosat"])
    assert f"Draws: {len(CASES)} of {len(CASES)} equal the published ones." in (
        capsys.readouterr().out
    )
    table(other_hash)
    main(["--root", str(root), "eurosat"])
    text = capsys.readouterr().out
    assert f"Draws: 0 of {len(CASES)} equal the published ones." in text
    assert text.count("1 shots, seed 1: train has other pictures, labels or another") == 1
