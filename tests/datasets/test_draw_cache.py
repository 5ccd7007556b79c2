"""Draws that published code cached: read without running anything, re-rooted, compared, used."""

import os
import pickle
import random
import resource
import shutil
from pathlib import Path

import pytest

import trees
from conftest import build_cfg, write_eurosat
from dassl.data.datasets import Datum, build_dataset
from dassl.utils.torchfile import reader
from datasets.draw_cache import cache_file
from datasets.item_pickle import read_datums
from scripts.check_data import main
from trainer.config import build_config

ELSEWHERE = "/home/someone/data"


@pytest.fixture
def root(tmp_path):
    write_eurosat(tmp_path, per_part={"train": 6, "val": 3, "test": 2})
    return tmp_path


def dataset(root, shots=2, subsample="all", name="EuroSAT", used=True, seed=1):
    cfg = build_cfg(root, shots, subsample, seed=seed, name=name)
    cfg.defrost()
    cfg.DATASET.FEWSHOT_CACHE = used
    return build_dataset(cfg)


def moved(items, root):
    """The items as another machine has them."""
    return [
        Datum.unchecked(i.impath.replace(str(root), ELSEWHERE, 1), i.label, 0, i.classname)
        for i in items
    ]


def write_cache(root, parts, folder="eurosat", name="shot_2-seed_1.pkl", protocol=4):
    path = root / folder / "split_fewshot" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(pickle.dumps(parts, protocol=protocol))
    return path


@pytest.fixture
def drawn(root):
    """Our own draw of seed 1 and that of seed 2, as parts."""
    draws = [dataset(root, used=False, seed=seed) for seed in (1, 2)]
    return [{"train": d.train_x, "val": d.val} for d in draws]


def elsewhere(parts, root):
    return {part: moved(items, root) for part, items in parts.items()}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_items_come_back_as_they_were_pickled(root, drawn, protocol):
    parts = elsewhere(drawn[0], root)
    got = read_datums(write_cache(root, parts, protocol=protocol))
    assert {k: [repr(i) for i in v] for k, v in got.items()} == {
        k: [repr(i) for i in v] for k, v in parts.items()
    }


def test_a_cached_draw_is_compared_and_left_alone(root, drawn, capsys):
    own = [i.impath for i in drawn[0]["train"]]
    write_cache(root, elsewhere(drawn[0], root))
    data = dataset(root, used=False)
    text = capsys.readouterr().out
    assert "The cached draw in split_fewshot/shot_2-seed_1.pkl equals ours." in text
    assert "Used: our draw (DATASET.FEWSHOT_CACHE False)" in text
    write_cache(root, elsewhere(drawn[1], root))
    again = dataset(root, used=False)
    number = len(set(own) - {i.impath for i in drawn[1]["train"]})
    assert number
    assert f"differs from ours in {number} of 20 pictures (train) and " in capsys.readouterr().out
    assert [i.impath for i in data.train_x] == [i.impath for i in again.train_x] == own


@pytest.mark.parametrize("subsample", ["all", "new"])
def test_a_cached_draw_is_used_by_the_key_alone(root, drawn, capsys, subsample):
    write_cache(root, elsewhere(drawn[1], root))
    want = dataset(root, subsample=subsample, used=False, seed=2)
    got = dataset(root, subsample=subsample)
    assert "Used: the cached draw (DATASET.FEWSHOT_CACHE True)" in capsys.readouterr().out
    assert got.draw_hash == want.draw_hash
    for part in ("train_x", "val", "test"):
        assert [repr(i) for i in getattr(got, part)] == [repr(i) for i in getattr(want, part)]


def test_another_order_is_told(root, drawn, capsys):
    parts = {part: items[::-1] for part, items in elsewhere(drawn[0], root).items()}
    write_cache(root, parts)
    dataset(root, used=False)
    assert "in the order of the same pictures (train) and the order" in capsys.readouterr().out


def test_imagenet_s_cache_has_training_pictures_alone(tmp_path, capsys):
    trees.write_imagenet(tmp_path)
    own, other = (dataset(tmp_path, name="ImageNet", used=False, seed=s) for s in (1, 2))
    write_cache(tmp_path, {"train": moved(other.train_x, tmp_path)}, folder="imagenet")
    data = dataset(tmp_path, name="ImageNet")
    assert "of 8 pictures (train)." in capsys.readouterr().out
    assert data.draw_hash == other.draw_hash != own.draw_hash
    assert len(data.val) == len(data.test) == 12


def test_a_root_in_a_folder_of_the_same_name(tmp_path):
    root = tmp_path / "eurosat" / "data"
    root.mkdir(parents=True)
    write_eurosat(root, per_part={"train": 6, "val": 3, "test": 2})
    own = dataset(root, used=False)
    path = write_cache(root, {"train": own.train_x, "val": own.val})
    assert f"{root}/eurosat/2750" in read_datums(path)["train"][0].impath
    assert dataset(root).draw_hash == own.draw_hash


def replace_first(change):
    def plant(parts):
        first = parts["train"][0]
        values = {"impath": first.impath, "label": first.label, "classname": first.classname}
        values |= change(first)
        parts["train"][0] = Datum.unchecked(**values, domain=0)

    return plant


FAULTS = [
    (lambda p: p.pop("val"), ValueError, r"has no val pictures"),
    (
        lambda p: p.update(train=[i for i in p["train"] if i.label != 3]),
        ValueError,
        r"has no training picture of label 3",
    ),
    (
        replace_first(lambda i: {"impath": f"{ELSEWHERE}/eurosat/../../x.jpg"}),
        ValueError,
        r"x\.jpg', which leaves eurosat/",
    ),
    (
        replace_first(lambda i: {"impath": "/etc/passwd"}),
        ValueError,
        r"'/etc/passwd', which is in no eurosat/",
    ),
    (
        replace_first(lambda i: {"impath": f"{ELSEWHERE}/eurosat/2750/gone.jpg"}),
        FileNotFoundError,
        r"eurosat/2750/gone\.jpg', which is missing",
    ),
    (
        replace_first(lambda i: {"impath": i.impath.replace("train_", "test_")[:-5] + "1.jpg"}),
        ValueError,
        r"test_1\.jpg', which is not a train picture of this data set",
    ),
    (replace_first(lambda i: {"label": 9}), ValueError, r"the label 9, here it has \d"),
    (replace_first(lambda i: {"label": "9"}), ValueError, r"_label of an item is a str"),
]


@pytest.mark.parametrize(("plant", "error", "message"), FAULTS)
def test_what_does_not_fit_is_refused_if_used_and_told_if_not(
    root, drawn, capsys, plant, error, message
):
    parts = elsewhere(drawn[1], root)
    plant(parts)
    write_cache(root, parts)
    with pytest.raises(error, match=rf"FEWSHOT_CACHE is True\. .*shot_2-seed_1\.pkl.*{message}"):
        dataset(root)
    assert dataset(root, used=False).draw_hash
    assert "The cached draw is not compared: " in capsys.readouterr().out


def test_a_cache_that_is_asked_for_must_be_there(root):
    with pytest.raises(FileNotFoundError, match=r"FEWSHOT_CACHE is True.*shot_2-seed_1\.pkl"):
        dataset(root)
    assert dataset(root, shots=-1)  # without shots there is no draw
    assert build_config()[0].DATASET.FEWSHOT_CACHE is False


class Hostile:
    """Asks for a command to be run when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_cache_is_executed(root, tmp_path, protocol):
    touched = tmp_path / "touched"
    path = write_cache(root, {"train": [Hostile(f"touch {touched}")]}, protocol=protocol)
    with pytest.raises(ValueError, match=r"Cannot read .*Nothing was executed"):
        read_datums(path)
    assert not touched.exists()


def test_other_classes_and_shapes_are_refused(root, drawn):
    path = write_cache(root, {"train": [Path("x")]})
    with pytest.raises(ValueError, match=r"asks for 'pathlib.*Path', which is not data"):
        read_datums(path)
    for shape in (
        [1, 2],
        {"train": 3},
        {"train": ["text"]},
        {"train": [{}]},
        "text",
        drawn[0]["val"][0],
    ):
        with pytest.raises(ValueError, match=r"is no cached draw: "):
            read_datums(write_cache(root, shape))


SMALL_AND_HUGE = [
    b"\x80\x02Nr\x00\x00\x00 .",  # memo index 2^29
    b"\x80\x04]" + b"r\xff\xff\xff\x7f" * 9 + b".",  # memo index 2^31, again and again
    b"\x80\x04X\xff\xff\xff\xff.",  # a text of 4 GB
    b"\x80\x04" + b"(" * 100_000 + b".",  # a hundred thousand open marks
    b"\x80\x04(" + b"]" * 50_000 + b"e.",
    b"",
    b"\x80\x04",
]


@pytest.mark.parametrize("data", SMALL_AND_HUGE)
def test_small_files_take_little_memory(root, data):
    path = write_cache(root, {})
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"no cached draw"):
        read_datums(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB


def test_large_files_are_refused(root, monkeypatch):
    path = write_cache(root, {"train": []})
    monkeypatch.setattr(reader, "MAX_ITEM_STEPS", 3)
    with pytest.raises(ValueError, match=r"more than 3 steps"):
        read_datums(path)
    with open(path, "wb") as file:
        file.truncate(reader.MAX_PICKLE + 1)  # sparse
    with pytest.raises(ValueError, match=r"more than 16 MiB"):
        read_datums(path)


def test_torn_and_flipped_files_are_answered_by_name(root, drawn):
    path = write_cache(root, elsewhere(drawn[0], root))
    data, rng = path.read_bytes(), random.Random(0)
    variants = [data[:end] for end in range(0, len(data) - 1, 7)]
    for _ in range(300):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] = rng.randrange(256)
        variants.append(bytes(flipped))
    for variant in variants:
        path.write_bytes(variant)
        try:
            read_datums(path)  # a flipped letter of a path is no error here
        except ValueError as error:
            assert str(path) in str(error)


def test_check_data_compares_all_caches(root, drawn, capsys):
    write_cache(root, elsewhere(drawn[0], root))
    write_cache(root, elsewhere(drawn[0], root), name="shot_2-seed_2.pkl")
    broken = write_cache(root, {}, name="shot_4-seed_1.pkl")
    broken.write_bytes(b"\x80\x04")
    write_cache(root, {}, name="shot_2-seed_-1.pkl")
    shutil.copy(broken, root / "eurosat" / "preprocessed.pkl")
    main(["--root", str(root), "eurosat"])
    text = capsys.readouterr().out
    assert "The cached draw in split_fewshot/shot_2-seed_1.pkl equals ours." in text
    assert "The cached draw in split_fewshot/shot_2-seed_2.pkl differs from ours in" in text
    assert f"a cached draw is not compared: Cannot read '{broken}': its pickle ends in the" in text
    assert "shot_2-seed_-1.pkl is not named shot_N-seed_S.pkl" in text
    assert "preprocessed.pkl is never read" in text


def test_the_cache_s_name_is_the_published_one():
    want = Path("data/eurosat/split_fewshot/shot_16-seed_3.pkl")
    assert cache_file(Path("data/eurosat"), 16, 3) == want
