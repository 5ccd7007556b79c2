"""Mutated input files: each is read whole, or refused in one sentence that names it.

`make test-slow` tries 5,000 of them, the fast suite some of the same.
"""

import csv
import io
import json
import math
import pickle

import hypothesis
import hypothesis.strategies as st
import pytest
import yaml
from PIL import Image

from conftest import REPOSITORY, build_cfg
from dassl.data.datasets import Datum, build_dataset
from mutations import mutate_bytes, mutate_text, mutate_tree
from report.results import read_results
from run_files import RunResults
from scripts import parse_test_res, report
from trainer.config import build_config, flatten

LETTERS = "abc"
PICTURES = {part: [f"{c}/{part}{i}.png" for c in LETTERS for i in range(2)]
            for part in ("train", "val", "test")}  # fmt: skip
NAMES = [name for names in PICTURES.values() for name in names]
SPLIT = {part: [[name, LETTERS.index(name[0]), f"class {name[0]}"] for name in names]
         for part, names in PICTURES.items()}  # fmt: skip
LIST = "path,label,split\n" + "".join(
    f"{name},class {name[0]},{part}\n" for part, names in PICTURES.items() for name in names
)
RESULTS = {
    "trainer": "MMRL", "dataset": "EuroSAT", "task": "B2N", "subsample_classes": "base",
    "num_shots": 16, "seed": 1, "split": "test", "total": 8, "correct": 6, "accuracy": 75.0,
    "error_rate": 25.0, "macro_f1": 74.0, "draw_sha256": None, "classnames": ["a", "b"],
    "config": {"OPTIM.LR": 0.1, "DATASET.NAME": "EuroSAT"},
}  # fmt: skip
DEFAULTS = flatten(build_config()[0])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three classes of six pictures, in a layout that serves DTD's reader and Folder's."""
    root = tmp_path_factory.mktemp("inputs")
    for name in NAMES:
        path = root / "dtd" / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1)).save(path)
    return root


def check_dataset(cfg, count_rows):
    """That a data set is what its list says."""
    data = build_dataset(cfg)
    items = [*data.train_x, *(data.val or []), *data.test]
    assert len(items) == count_rows()
    assert {item.label for item in items} == set(range(data.num_classes))
    assert all(item.classname == data.classnames[item.label] for item in items)
    assert all(name.strip() for name in data.classnames)


def mutated(tree, dump, rng):
    """The file's bytes: a changed tree, or a changed text or bytes of the whole one."""
    kind = rng.randrange(3)
    if kind == 0:
        return dump(mutate_tree(tree, rng)).encode("utf-8", "surrogatepass")
    if kind == 1:
        return mutate_text(dump(tree), rng).encode("utf-8", "surrogatepass")
    return mutate_bytes(dump(tree).encode(), rng)


def to_json(tree):
    return json.dumps(tree, indent=1)


def try_split_file(rng, root):
    path = root / "dtd" / "split_zhou_DescribableTextures.json"
    path.write_bytes(mutated(SPLIT, to_json, rng))
    cfg = build_cfg(root, -1, "all", name="DescribableTextures")
    yield "DescribableTextures", path, root / "dtd" / "images"
    check_dataset(cfg, lambda: _num_rows(json.loads(path.read_bytes().decode("utf-8-sig"))))


def _num_rows(split):
    return sum(len(split[part]) for part in PICTURES)


def try_cached_draw(rng, root):
    split, cache = root / "dtd" / "split_zhou_DescribableTextures.json", root / "dtd/split_fewshot"
    split.write_text(to_json(SPLIT))
    cache.mkdir(exist_ok=True)
    path = cache / "shot_1-seed_1.pkl"
    drawn = {part: [SPLIT[part][i] for i in (0, 2, 4)] for part in ("train", "val")}
    tree = mutate_tree(drawn, rng) if rng.random() < 0.5 else drawn
    data = pickle.dumps(_as_items(tree), protocol=rng.randrange(2, 6))
    path.write_bytes(mutate_bytes(data, rng) if tree is drawn else data)
    cfg = build_cfg(root, 1, "all", name="DescribableTextures")
    cfg.defrost()
    cfg.DATASET.FEWSHOT_CACHE = True
    yield (path,)
    data = build_dataset(cfg)
    assert {item.label for item in data.train_x} == {0, 1, 2}
    assert data.classnames == ["class a", "class b", "class c"]


def _as_items(tree):
    """Rows become items, as far as they are rows."""
    if isinstance(tree, dict):
        return {key: _as_items(value) for key, value in tree.items()}
    if not isinstance(tree, list) or len(tree) != 3 or isinstance(tree[0], list):
        return list(map(_as_items, tree)) if isinstance(tree, list) else tree
    item = Datum.unchecked("x", 0, 0, "x")
    impath = f"/elsewhere/dtd/images/{tree[0]}" if isinstance(tree[0], str) else "x"
    item._set(impath, tree[1], 0, tree[2])
    return item


def try_csv(rng, root):
    path = root / "list.csv"
    rows = list(csv.reader(io.StringIO(LIST)))
    path.write_bytes(mutated(rows, _to_csv, rng))
    cfg = build_cfg(root / "dtd" / "images", -1, "all", name="Folder")
    cfg.defrost()
    cfg.DATASET.CSV = str(path)
    yield path, root / "dtd" / "images", "Folder"
    check_dataset(cfg, lambda: _num_lines(path.read_bytes().decode("utf-8-sig")))


def _num_lines(text):
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return sum(1 for row in csv.reader(io.StringIO(text)) if row) - 1


def _to_csv(rows):
    text = io.StringIO()
    rows = rows if isinstance(rows, list) else [rows]
    csv.writer(text, lineterminator="\n").writerows(r if isinstance(r, list) else [r] for r in rows)
    return text.getvalue()


def try_names_file(rng, root):
    path = root / "names.txt"
    path.write_bytes(mutated(["one", "two", "three"], lambda t: "\n".join(map(str, t)), rng))
    cfg = build_cfg(root / "dtd" / "images", -1, "all", name="Folder")
    cfg.defrost()
    cfg.DATASET.CSV, cfg.DATASET.CLASSNAMES = str(root / "list.csv"), str(path)
    (root / "list.csv").write_text(LIST)
    yield path, "Folder"
    check_dataset(cfg, lambda: len(NAMES))


def _to_yaml(tree):
    return yaml.dump(tree, allow_unicode=True)


def _try_config(rng, root, name, **which):
    path = root / f"own.{rng.choice(['yaml', 'yaml', 'yaml', 'yml', 'py'])}"
    tree = yaml.safe_load((REPOSITORY / "configs" / name).read_text())
    path.write_bytes(mutated(tree, _to_yaml, rng))
    yield path, *DEFAULTS, "template"
    cfg, _ = build_config("MMRL", **dict.fromkeys(which, str(path)))
    values = flatten(cfg)
    assert all(type(value) is type(DEFAULTS[key]) for key, value in values.items())
    assert all(math.isfinite(value) for value in values.values() if type(value) in (int, float))
    cfg.dump().encode()
    loaded = flatten(yaml.load(path.read_bytes().decode("utf-8-sig"), yaml.BaseLoader) or {})
    for key, text in loaded.items():  # every value is read, and a number as it is written
        if type(values[key]) in (int, float):
            assert float(text.replace("_", "")) == values[key] or text.startswith("0x")


def try_dataset_yaml(rng, root):
    yield from _try_config(rng, root, "datasets/shapes.yaml", dataset_config_file=1)


def try_trainer_yaml(rng, root):
    yield from _try_config(rng, root, "trainers/MMRL/vit_b16.yaml", config_file=1)


def try_results(rng, root):
    folder = root / "runs" / "seed1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_bytes(mutated(RESULTS, to_json, rng))
    yield (folder / "results.json",)
    assert parse_test_res.main([str(root / "runs")]) in (0, 1, 2)
    if rng.random() < 0.02:  # drawing takes a second
        assert report.main([str(root / "runs"), "--partial", "--out", str(root / "out")]) < 3
    found = RunResults.read(folder)
    for result in read_results(root / "runs").results:
        assert 0 <= result.accuracy <= 100
        assert isinstance(result.dataset, str)
        assert result.accuracy == found.values["accuracy"]


KINDS = {
    try_split_file, try_cached_draw, try_csv, try_names_file, try_dataset_yaml, try_trainer_yaml,
    try_results,
}  # fmt: skip


def campaign(attempt, root, count):
    @hypothesis.settings(max_examples=count, derandomize=True, deadline=None, database=None,
                         phases=[hypothesis.Phase.generate],
                         suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    @hypothesis.given(st.randoms(use_true_random=False))
    def each_is_read_or_refused(rng):
        steps = attempt(rng, root)
        names = next(steps)
        try:
            next(steps, None)
        except (ValueError, FileNotFoundError) as error:
            assert "\n" not in str(error).strip()
            assert len(str(error)) < 1500
            assert any(str(name) in str(error) for name in names), error

    each_is_read_or_refused()


@pytest.mark.parametrize("attempt", sorted(KINDS, key=lambda f: f.__name__))
def test_a_mutated_file_is_read_whole_or_refused_by_name(attempt, root):
    campaign(attempt, root, count=40)


@pytest.mark.slow
@pytest.mark.parametrize("attempt", sorted(KINDS, key=lambda f: f.__name__))
def test_many_mutated_files_are_read_whole_or_refused_by_name(attempt, root):
    campaign(attempt, root, count=5000 // len(KINDS) + 1)
