"""Split file, few-shot draw and halves against the published picks; what is refused."""

import json
import random
from pathlib import Path

import pytest

from conftest import GOLDEN, build_cfg
from dassl.data.datasets import build_dataset
from dassl.data.datasets.base_dataset import Datum
from datasets.base import draw_shots

FEWSHOT = json.loads((GOLDEN / "fewshot.json").read_text())


@pytest.fixture(scope="module")
def fewshot_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("fewshot")
    (root / "eurosat").mkdir()
    (root / "eurosat" / "split_zhou_EuroSAT.json").write_text(json.dumps(FEWSHOT["split"]))
    for rows in FEWSHOT["split"].values():
        for name, _, _ in rows:
            path = root / "eurosat" / "2750" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    return root


def as_rows(items, root):
    base = root / "eurosat" / "2750"
    return [[str(Path(i.impath).relative_to(base)), i.label, i.classname] for i in items]


def case_id(case):
    return f"{case['subsample']}-{case['shots']}-seed{case['seed']}"


@pytest.mark.parametrize("case", FEWSHOT["cases"], ids=case_id)
def test_draw_equals_the_published_picks(case, fewshot_root):
    random.seed(case["seed"] + 1)  # the draw has a generator of its own
    data = build_dataset(
        build_cfg(fewshot_root, case["shots"], case["subsample"], seed=case["seed"])
    )
    assert as_rows(data.train_x, fewshot_root) == case["train"]
    assert as_rows(data.val, fewshot_root) == case["val"]
    assert len(data.test) == case["n_test"]
    assert data.classnames == case["classnames"]


def test_without_shots_everything_is_kept_in_order(fewshot_root):
    data = build_dataset(build_cfg(fewshot_root, -1, "all"))
    assert as_rows(data.train_x, fewshot_root) == FEWSHOT["split"]["train"]


def test_draw_hash_follows_the_picks(fewshot_root):
    hashes = [
        build_dataset(build_cfg(fewshot_root, shots, "all", seed=seed)).draw_hash
        for shots, seed in ((4, 1), (4, 1), (4, 2), (8, 1))
    ]
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 3


def test_unseeded_draws_differ():
    items = [Datum.unchecked(str(i), 0, 0, "a") for i in range(1000)]
    first, second = (draw_shots(items, 16, random.Random(None)) for _ in range(2))
    assert [i.impath for i in first] != [i.impath for i in second]


def test_nothing_is_written_into_the_data_folder(fewshot_root):
    before = sorted(p for p in fewshot_root.rglob("*"))
    build_dataset(build_cfg(fewshot_root, 4, "base"))
    assert sorted(p for p in fewshot_root.rglob("*")) == before


def planted(tmp_path, change):
    split = json.loads(json.dumps(FEWSHOT["split"]))
    change(split)
    folder = tmp_path / "eurosat"
    (folder / "2750").mkdir(parents=True)
    (folder / "split_zhou_EuroSAT.json").write_text(json.dumps(split))
    return build_cfg(tmp_path, -1, "all")


def with_files(tmp_path, change):
    cfg = planted(tmp_path, change)
    for rows in FEWSHOT["split"].values():
        for name, _, _ in rows:
            path = tmp_path / "eurosat" / "2750" / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
    return cfg


def rename_label(split):
    split["train"][0][2] = "another name"


def drop_label_3(split):
    split["train"] = [row for row in split["train"] if row[1] != 3]


def unknown_test_label(split):
    split["test"][0][1] = 40


FAULTS = [
    (lambda s: s["train"][0].__setitem__(1, -1), ValueError, r"train entry 0: the label -1 of"),
    (lambda s: s["val"][2].__setitem__(1, 10**9), ValueError, r"val entry 2: the label 10{9} of"),
    (lambda s: s["train"][1].__setitem__(1, 1.5), ValueError, r"entry 1 is .*not \[path, label"),
    (lambda s: s["test"].__setitem__(3, None), ValueError, r"test entry 3 is None, not \[path"),
    (lambda s: s["test"][0].__setitem__(2, " "), ValueError, r"class name is empty"),
    (lambda s: s.pop("val"), ValueError, r"has no \['val'\]"),
    (lambda s: s["train"][0].__setitem__(0, "/etc/passwd"), ValueError, r"/etc/passwd.*outside"),
    (lambda s: s["test"][0].__setitem__(0, "../x.jpg"), ValueError, r"\.\./x\.jpg.*outside"),
    (drop_label_3, ValueError, r"no training image has label 3"),
    (unknown_test_label, ValueError, r"label 40 occurs in test but not in train"),
    (lambda s: None, FileNotFoundError, r"294 of 294 images are missing, the first is .*--root"),
]


@pytest.mark.parametrize(("change", "error", "message"), FAULTS)
def test_faults_are_named(tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        build_dataset(planted(tmp_path, change))


TWICE = '{"train": [], "val": [], "test": [], "train": []}'
HALF = '{"train": [["a.jpg", 0, "\\ud800"]], "val": [], "test": []}'


@pytest.mark.parametrize("text", ["", "[]", "{", '{"train": 1}', "\xff", TWICE, HALF, "[" * 99999])
def test_what_is_no_split_file_is_named(tmp_path, text):
    cfg = planted(tmp_path, lambda split: None)
    (tmp_path / "eurosat" / "split_zhou_EuroSAT.json").write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r"split_zhou_EuroSAT\.json'.*(again|UTF-8)"):
        build_dataset(cfg)


def test_a_gap_is_found_before_the_halves_are_cut(tmp_path):
    cfg = with_files(tmp_path, drop_label_3).clone()
    cfg.defrost()
    cfg.DATASET.SUBSAMPLE_CLASSES = "base"
    with pytest.raises(ValueError, match=r"no training image has label 3"):
        build_dataset(cfg)


def test_two_names_for_one_label_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"label \d is named both 'another name' and"):
        build_dataset(with_files(tmp_path, rename_label))


def test_a_wrong_root_is_answered_with_the_folder_that_is_missing(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no .*/eurosat\. --root is the folder that holds eurosat/"
    ):
        build_dataset(build_cfg(tmp_path, 4, "all"))
