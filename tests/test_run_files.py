"""results.json: what is written is read back; whatever is damaged is one sentence with its path."""

import json

import pytest

from run_files import RESULTS_FILE, RunResults

WHOLE = {"trainer": "MMRL", "num_shots": 16, "accuracy": 90.5, "draw_note": None, "config": {}}


def test_what_is_written_is_read_back_with_keys_in_their_order(tmp_path):
    path = RunResults.of(WHOLE, tmp_path / RESULTS_FILE).write()
    results = RunResults.read(tmp_path)
    assert list(results.values.items()) == list(WHOLE.items())
    assert list(json.loads(path.read_text())) == list(WHOLE)
    assert (results.trainer, results.num_shots, results.accuracy) == ("MMRL", 16, 90.5)
    assert results.macro_f1 is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"accuracy": 9', "cannot be read"),
        ("", "cannot be read"),
        ("\udcff\udcfe", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ("[1]", "does not hold a run's results; remove it"),
        ("{}", "does not hold a run's results; remove it"),
        ('{"seed": 1}', "does not hold a run's results; remove it"),
        ('{"accuracy": "high"}', "does not hold a run's results: accuracy is 'high'; remove it"),
        ('{"accuracy": true}', "does not hold a run's results: accuracy is True; remove it"),
        ('{"config": []}', r"does not hold a run's results: config is \[\]; remove it"),
        ('{"correct": 1.5}', r"does not hold a run's results: correct is 1\.5; remove it"),
    ],
)
def test_a_damaged_file_is_one_sentence_with_its_path(content, message, tmp_path):
    (tmp_path / RESULTS_FILE).write_text(content, errors="surrogateescape")
    with pytest.raises(ValueError, match=f"{tmp_path / RESULTS_FILE} {message}") as caught:
        RunResults.read(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


def test_a_folder_in_its_place_cannot_be_read(tmp_path):
    (tmp_path / RESULTS_FILE).mkdir()
    with pytest.raises(ValueError, match=r"cannot be read .*; remove it"):
        RunResults.read(tmp_path)


def test_no_file_is_a_run_that_is_not_finished(tmp_path):
    with pytest.raises(FileNotFoundError, match="is not there: the run is not finished"):
        RunResults.read(tmp_path)


def test_a_reader_s_missing_key_is_named(tmp_path):
    with pytest.raises(ValueError, match=f"{tmp_path} has no 'macro_f1'"):
        RunResults.of(WHOLE, tmp_path).need("macro_f1")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("accuracy", float("nan")), ("accuracy", 101), ("macro_f1", -1), ("error_rate", 1e999)),
        *(("num_shots", -5), ("seed", -2), ("total", -1), ("classnames", ["a", 1])),
    ],
)
def test_figures_out_of_range_are_named(key, value, tmp_path):
    (tmp_path / RESULTS_FILE).write_text(json.dumps(WHOLE | {key: value}))
    with pytest.raises(ValueError, match=rf"results\.json does not hold .* {key} is"):
        RunResults.read(tmp_path)


def test_more_right_answers_than_pictures_and_a_key_twice_are_refused(tmp_path):
    path = tmp_path / RESULTS_FILE
    path.write_text(json.dumps(WHOLE | {"total": 3, "correct": 4}))
    with pytest.raises(ValueError, match=r"4 of 3 are correct"):
        RunResults.read(tmp_path)
    path.write_text('{"accuracy": 1, "config": {}, "accuracy": 2}')
    with pytest.raises(ValueError, match=r"the key 'accuracy' is there twice"):
        RunResults.read(tmp_path)
