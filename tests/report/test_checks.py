"""Runs that do not belong together are named and refused; damaged files are named and skipped."""

import json
import math
from pathlib import Path

import pytest

from datasets.catalog import ELEVEN
from report.checks import left_out, refusals
from report.results import Result, read_results
from report.tables import build_tables
from report_tree import cells, write, write_pairs
from scripts import report
from trainer.checkpoints.identity import Identity, seal

PAIR = "Base to novel"
OTHERS = "Base to novel, other data sets"


def refusal(root, capsys, *args):
    """The error of a report that is refused and writes nothing."""
    assert report.main([str(root), *args]) == 2
    assert not (root / "report").exists()
    return capsys.readouterr().err


@pytest.mark.parametrize("fields", [{}, {"config": {"OPTIM.LR": 0.5}}])
def test_two_runs_of_one_cell_and_seed_are_named_and_refused(fields, tmp_path, capsys):
    write_pairs(tmp_path, "eurosat", config={})
    twin = write(tmp_path, "MMRL", "eurosat", "B2N", "new", 16, 2, 50.0, "copy", **fields)
    text = refusal(tmp_path, capsys)
    assert str(twin) in text
    assert str(tmp_path / "B2N-new-16/eurosat/MMRL/seed2") in text
    assert (
        "two runs of one cell and seed: MMRL, B2N, eurosat, new classes, 16 shots, seed 2" in text
    )
    assert "remove one of them, or report a subfolder" in text
    assert report.main([str(tmp_path / "copy"), "--partial"]) == 1


def test_a_copied_folder_is_not_a_page_of_errors(tmp_path, capsys):
    for place in ("", "copy"):
        for dataset in ("eurosat", "dtd", "ucf101"):
            write_pairs(tmp_path, dataset, place=place)
    text = refusal(tmp_path, capsys)
    assert len(text.splitlines()) == 11
    assert text.endswith("... and 8 more of this kind\n")


def test_a_link_to_a_run_is_that_run(tmp_path):
    folder = write_pairs(tmp_path, "eurosat")
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "results.json").symlink_to(folder / "results.json")
    assert cells(tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("key", "value"),
    [("OPTIM.LR", 0.5), ("MODEL.BACKBONE.NAME", "ViT-B/32"), ("TRAINER.MMRL.REP_LAYERS", [1, 2])],
)
def test_seeds_with_other_settings_are_never_averaged(key, value, tmp_path, capsys):
    config = {"OPTIM.LR": 0.002, "MODEL.BACKBONE.NAME": "ViT-B/16", "OUTPUT_DIR": "a"}
    write_pairs(tmp_path, "eurosat", (1, 2), config=config)
    folder = write_pairs(tmp_path, "eurosat", (3,), config=config | {key: value, "OUTPUT_DIR": "b"})
    text = refusal(tmp_path, capsys)
    assert str(folder) in text
    assert "are seeds 1 and 3 of one cell" in text
    assert f"{key} is " in text
    assert f"{value} in the second" in text


def test_a_key_of_a_later_version_had_what_is_now_its_default(tmp_path):
    write_pairs(tmp_path, "eurosat", (1, 2), config={"OPTIM.LR": 0.002})
    later = {"OPTIM.LR": 0.002, "TRAINER.CLASS_CHUNK": 0}
    write_pairs(tmp_path, "eurosat", (3,), config=later)
    assert cells(tmp_path)[0] == 0


def test_own_sets_of_one_name_are_told_by_their_pictures(tmp_path, capsys):
    write_pairs(tmp_path, "Folder", (1,), dataset_label="birds", total=40)
    write_pairs(tmp_path, "Folder", (2,), dataset_label="birds", total=41)
    text = refusal(tmp_path, capsys)
    assert "the number of evaluated pictures is 40 in the first and 41 in the second" in text
    assert "DATASET.LABEL" in text


def test_other_shots_make_another_table(tmp_path, capsys):
    write_pairs(tmp_path, "eurosat", place="shots_16/a")
    write_pairs(tmp_path, "eurosat", shots=4, place="shots_16/b")
    assert report.main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    four, sixteen = text.index("## Base to novel, MMRL, 4 shots"), text.index("MMRL, 16 shots")
    assert "95.60" not in text[four:sixteen]  # published, of 16 shots
    assert "none stands beside these runs" in text[four:sixteen]
    assert "95.60" in text[sixteen:]
    for name in ("report.html", "report.tex"):
        page = (tmp_path / "report" / name).read_text()
        assert "Base to novel, MMRL, 4 shots" in page


def test_another_clip_makes_another_table(tmp_path, capsys):
    write_pairs(tmp_path, "dtd", config={"MODEL.BACKBONE.NAME": "ViT-B/32"})
    write_pairs(tmp_path, "eurosat", config={"MODEL.BACKBONE.NAME": "ViT-B/16"})
    assert report.main([str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "## Base to novel, MMRL, 16 shots, ViT-B/16\n" in text
    other = text[text.index("16 shots, ViT-B/32") :]
    assert "85.67" not in other  # published for dtd


def made_with(backbone, sha, dataset, seed=1):
    settings = {"MODEL.BACKBONE.NAME": backbone}
    return Result(
        "MMRL", dataset, True, "FS", "all", 16, seed, 80.0, Path(backbone),
        settings=settings, backbone_sha256=sha,
    )  # fmt: skip


def test_one_clip_in_two_files_makes_one_table():
    runs = [made_with("ViT-B/16", "a" * 64, "dtd"), made_with("clip.pt", "a" * 64, "eurosat")]
    (table,) = build_tables(runs, [1], False)
    assert table.caption == "Few shots, MMRL, 16 shots, ViT-B/16"
    assert refusals([runs[0], made_with("clip.pt", "a" * 64, "dtd", 2)]) == []


def test_runs_of_an_earlier_version_join_those_of_the_clip_of_their_name():
    runs = [made_with("ViT-B/16", "", "dtd"), made_with("ViT-B/16", "a" * 64, "eurosat")]
    (table,) = build_tables(runs, [1], False)
    assert table.caption.endswith("16 shots, ViT-B/16")


def test_two_clips_in_files_of_one_name_make_two_tables():
    runs = [made_with("clip.pt", sha * 64, name) for sha, name in (("a", "dtd"), ("b", "eurosat"))]
    captions = {table.caption for table in build_tables(runs, [1], False)}
    assert captions == {f"Few shots, MMRL, 16 shots, clip.pt ({sha * 12})" for sha in "ab"}
    (sentence,) = refusals([runs[0], made_with("clip.pt", "b" * 64, "dtd", 2)])
    assert "the fingerprint of clip.pt is aaaaaaaaaaaa in the first and bbbbbbbbbbbb" in sentence


def test_own_sets_and_the_demo_have_a_table_of_their_own(tmp_path):
    for dataset in ELEVEN:
        write_pairs(tmp_path, dataset)
    _, alone = cells(tmp_path)
    write_pairs(tmp_path, "Shapes", place="demo")
    write_pairs(tmp_path, "Folder", dataset_label="eurosat", place="own")
    birds = {"DATASET.ROOT": "/data/birds/"}
    write_pairs(tmp_path, "Folder", config=birds, place="birds")
    code, found = cells(tmp_path)
    assert code == 0
    average = "average (H of the averages)"
    assert {key: row for key, row in found.items() if key[0] == PAIR} == alone
    assert float(alone[PAIR, average, "base"]["published"]) == 85.68
    assert {row for table, row, _ in found if table == OTHERS} >= {"shapes", "eurosat", "birds"}
    assert not any(row["published"] for key, row in found.items() if key[0] == OTHERS)


WHOLE = {"accuracy": 9.0, "trainer": "MMRL", "dataset": "EuroSAT", "task": "FS", "seed": 1}
WHOLE |= {"subsample_classes": "all", "num_shots": 1}
DAMAGED = {
    "torn": '{"trainer": "MMRL", "data',
    "empty": "",
    "list": "[]",
    "nothing": "{}",
    "text": '"results"',
    "wrong type": json.dumps({"accuracy": "high"}),
    "wrong shots": json.dumps({"accuracy": 9.0, "num_shots": "16"}),
    "no shots": json.dumps(WHOLE | {"num_shots": 0}),
    "not a number": json.dumps({"accuracy": math.nan}),
    "too much": json.dumps({"accuracy": 900.0}),
    "negative": json.dumps({"accuracy": -1}),
    "no data set": json.dumps({"accuracy": 9.0, "trainer": "MMRL"}),
    "not UTF-8": b"\xff\xfe{",
    "identity": json.dumps({"accuracy": 9.0, "identity": {}}),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named(name, tmp_path):
    path, content = tmp_path / "results.json", DAMAGED[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    (sentence,) = left_out(read_results(tmp_path), [1])
    assert sentence.startswith((f"Skipped: {path}", f"Skipped: '{path}'"))
    assert "remove it" in sentence


def test_a_damaged_file_is_skipped_and_the_rest_is_reported(tmp_path, capsys):
    write_pairs(tmp_path, "eurosat")
    path = tmp_path / "bad" / "results.json"
    path.parent.mkdir()
    path.write_text("[]")
    code, found = cells(tmp_path)
    assert code == 1
    assert float(found[PAIR, "eurosat", "base"]["mean"]) == 92.0
    assert f"Skipped: {path}" in capsys.readouterr().err
    for page in ("report.md", "report.html"):
        assert str(path) in (tmp_path / "report" / page).read_text()


def test_a_file_that_no_longer_has_what_was_written_is_skipped(tmp_path, capsys):
    values = seal({"accuracy": 90.0, "trainer": "MMRL"}, Identity("MMRL", {}))
    (tmp_path / "results.json").write_text(json.dumps(values | {"accuracy": 99.0}))
    assert report.main([str(tmp_path)]) == 1
    assert "its content does not match its digest" in capsys.readouterr().err


def test_what_no_table_has_is_named(tmp_path, capsys):
    write_pairs(tmp_path, "eurosat", (1, 2, 3, 4))
    whole = write(tmp_path, "MMRL", "eurosat", "B2N", "all", 16, 1, 80.0)
    untested = tmp_path / "untested"
    untested.mkdir()
    (untested / "results.json").write_text('{"config": {}}')
    code, found = cells(tmp_path)
    assert code == 0
    assert float(found[PAIR, "eurosat", "base"]["mean"]) == 92.0  # of seeds 1, 2 and 3
    text = capsys.readouterr().err
    assert f"Left out: {whole} is of TASK B2N and all classes" in text
    assert f"Left out: {untested} was not evaluated" in text
    assert "2 runs of seeds that are not asked for (4); --seeds 1,2,3,4 takes them in" in text


def test_a_report_of_damaged_files_alone_says_so(tmp_path, capsys):
    (tmp_path / "results.json").write_text("{")
    assert report.main([str(tmp_path)]) == 1
    assert "has a place in a table" in capsys.readouterr().err
