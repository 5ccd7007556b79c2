"""Two logs: what differs is found, what is not there is not claimed."""

import json
import re
import subprocess
import sys

import pytest

from benchmarks.compare import build_parser, main
from benchmarks.logs import read_run
from conftest import GOLDEN, REPOSITORY

PUBLISHED = GOLDEN / "log_mmrl_seed1.txt"


def losses_of():
    """Three epochs of five batches."""
    return {(e, b): 3 - 0.1 * e - 0.01 * b for e in range(1, 4) for b in range(1, 6)}


def lines_of(losses, first=1, every=1, epochs=3, batches=5, lr=1e-3):
    """Dassl's lines of the epochs from `first`; the mean is that of the epoch so far."""
    lines = []
    for (epoch, batch), loss in losses.items():
        seen = [value for (e, b), value in losses.items() if e == epoch and b <= batch]
        if epoch >= first and batch % every == 0:
            lines.append(
                f"epoch [{epoch}/{epochs}] batch [{batch}/{batches}] time 0.100 (0.120) "
                f"data 0.001 (0.002) loss {loss:.4f} ({sum(seen) / len(seen):.4f}) "
                f"acc 25.0000 (20.0000) lr {lr / epoch:.4e} eta 0:00:02"
            )
    return lines


def config_of(**settings):
    """`print(cfg)` of a few keys, some of them of another trainer."""
    values = {"PREC": "fp32", "SEED": "1", "OUTPUT_DIR": "out", "OTHER": "1"} | settings
    return [
        *("************", "** Config **", "************", "DATASET:", "  NAME: EuroSAT"),
        *(f"OUTPUT_DIR: {values['OUTPUT_DIR']}", "RESUME: ", f"SEED: {values['SEED']}"),
        *("TRAINER:", "  COOP:", f"    N_CTX: {values['OTHER']}"),
        *("  MMRL:", f"    PREC: {values['PREC']}", "  NAME: MMRL", "Collecting env info ..."),
    ]


FRESH = ["No checkpoint found, train from scratch"]


def result_of(correct=38, total=1150, split="test"):
    return [
        f"Evaluate on the *{split}* set",
        *("=> result", f"* total: {total:,}", f"* correct: {correct:,}", "* accuracy: 3.3%"),
    ]


def log_of(losses=None, **settings):
    return [*config_of(**settings), *FRESH, *lines_of(losses or losses_of()), *result_of()]


def write(path, lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + end)
    return str(path)


def run(a, b, *options, capsys):
    code = main([str(a), str(b), *options])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_published_log_equals_itself(capsys):
    code, text = run(PUBLISHED, PUBLISHED, capsys=capsys)
    assert code == 0
    assert "MMRL, EuroSAT, fp32, seed 1, 15 of 15 steps printed" in text
    assert text.count("equal to the digits printed (unit 0.0001) in 15 steps") == 2
    assert "38 of 150 in both" in text
    assert "draw           not in this log (A and B)" in text
    assert "what lies below the last digit is not in these logs." in text


@pytest.mark.parametrize(
    ("change", "code"),
    [(0.0001, 0), (-0.0001, 0), (0.0002, 1), (float("nan"), 1), (float("inf"), 1)],
)
def test_one_unit_of_the_last_digit_may_be_rounding_and_more_is_not(tmp_path, capsys, change, code):
    losses = losses_of()
    a = write(tmp_path / "a.txt", log_of(losses))
    lines = log_of({**losses, (2, 3): losses[2, 3] + change})
    got, text = run(a, write(tmp_path / "b.txt", lines), capsys=capsys)
    assert got == code
    (row,) = [line for line in text.splitlines() if line[2:].startswith("loss ")]
    if code:
        assert re.match(r"! loss +first differs at epoch 2, batch 3: 2.7700 / \S+; 1 of 15", row)
    else:
        assert "equal within 1e-05 relative and the unit 0.0001 printed" in row
        assert row.endswith("the largest difference is 0.0001 at epoch 2, batch 3")


def test_losses_that_are_undefined_in_both_are_equal(tmp_path, capsys):
    a = write(tmp_path / "a.txt", log_of({**losses_of(), (3, 5): float("nan")}))
    assert run(a, a, capsys=capsys)[0] == 0


def test_a_step_that_is_not_printed_shows_in_the_mean(tmp_path, capsys):
    losses = losses_of()
    a = write(tmp_path / "a.txt", [*FRESH, *lines_of(losses, every=5)])
    b = write(tmp_path / "b.txt", [*FRESH, *lines_of({**losses, (2, 2): 2.9}, every=5)])
    code, text = run(a, b, capsys=capsys)
    assert code == 1
    assert "  loss       equal to the digits printed (unit 0.0001) in 3 steps" in text
    assert "! mean loss  first differs at epoch 2, batch 5: 2.7700 / 2.7940; 1 of 3" in text


def test_logs_that_print_seldom_say_what_they_cannot_show(tmp_path, capsys):
    a = write(tmp_path / "a.txt", [*FRESH, *lines_of(losses_of(), every=5)])
    b = write(tmp_path / "b.txt", log_of())
    code, text = run(a, b, capsys=capsys)
    assert code == 0
    assert "steps that one of them does not print show in the means alone" in text
    assert "settings   not in this log (A)" in text
    assert "correct    not in this log (A)" in text


@pytest.mark.parametrize("prec", ["amp", "fp16", "bf16"])
def test_half_precision_has_a_tolerance_of_its_own(tmp_path, capsys, prec):
    losses = losses_of()
    a = write(tmp_path / "a.txt", log_of(losses, PREC=prec))
    b = write(tmp_path / "b.txt", log_of({k: v * 1.001 for k, v in losses.items()}, PREC=prec))
    assert run(a, b, capsys=capsys)[0] == 0
    assert run(a, b, "--tolerance", "1e-4", capsys=capsys)[0] == 1
    with pytest.raises(SystemExit, match="2"):
        run(a, b, "--tolerance", "-1", capsys=capsys)


def test_other_learning_rates_are_another_run(tmp_path, capsys):
    a = write(tmp_path / "a.txt", lines_of(losses_of()))
    lines = [line.replace("lr 5.0000e-04", "lr 5.0010e-04") for line in lines_of(losses_of())]
    code, text = run(a, write(tmp_path / "b.txt", lines), capsys=capsys)
    assert code == 1
    assert "! lr         first differs at epoch 2, batch 1: 5.0000e-04 / 5.0010e-04" in text


def test_settings_that_bear_on_the_run_are_shown(tmp_path, capsys):
    a = write(tmp_path / "a.txt", log_of())
    b = write(tmp_path / "b.txt", log_of(SEED="2", OUTPUT_DIR="elsewhere", OTHER="4"))
    code, text = run(a, b, capsys=capsys)
    assert code == 0
    assert "settings       1 differ: SEED 1 / 2\n" in text


def test_other_counts_and_other_lengths_are_another_run(tmp_path, capsys):
    losses = losses_of()
    a = write(tmp_path / "a.txt", [*lines_of(losses), *result_of(1038)])
    b = write(tmp_path / "b.txt", [*lines_of(losses, batches=6), *result_of(1039)])
    code, text = run(a, b, capsys=capsys)
    assert code == 1
    assert "! correct, test  1,038 of 1,150 / 1,039 of 1,150" in text
    assert "! length         3 epochs of 5 batches / 3 epochs of 6 batches" in text


def test_validation_is_not_taken_for_the_test(tmp_path, capsys):
    lines = [*lines_of(losses_of()), *result_of(7, split="val"), *result_of(9)]
    path = write(tmp_path / "a.txt", [*lines, *result_of(5, split="val")])
    assert read_run(tmp_path / "a.txt").counts == {"val": (5, 1150), "test": (9, 1150)}
    assert "correct, val" in run(path, path, capsys=capsys)[1]


def test_a_resumed_run_is_one_run(tmp_path, capsys):
    """Killed in epoch 2 and resumed twice: later logs replace what they did anew."""
    losses = losses_of()
    wrong = {place: loss + (place == (2, 1)) for place, loss in losses.items()}
    first = lines_of(wrong)[:6]
    write(
        tmp_path / "run" / "log.txt", [*config_of(), *FRESH, *first], end="\nepoch [2/3] batch [2/"
    )
    write(tmp_path / "run" / "log.txt-2024-05-06-07-08-09", lines_of(losses, first=2)[:5])
    write(
        tmp_path / "run" / "log.txt-2024-05-06-10-00-00",
        [*lines_of(losses, first=3), *result_of()],
    )
    whole = write(tmp_path / "whole.txt", log_of())
    assert run(tmp_path / "run", whole, capsys=capsys)[0] == 0
    code, text = run(tmp_path / "run" / "log.txt", whole, capsys=capsys)
    assert code == 1
    assert "first differs at epoch 2, batch 1" in text


def test_a_run_that_began_again_is_the_later_one(tmp_path, capsys):
    write(tmp_path / "run" / "log.txt", log_of({k: v + 1 for k, v in losses_of().items()}))
    write(tmp_path / "run" / "log.txt-2024-05-06-07-08-09", log_of(SEED="3"))
    code, text = run(tmp_path / "run", write(tmp_path / "b", log_of(SEED="3")), capsys=capsys)
    assert (code, "seed 3" in text) == (0, True)
    both = [*log_of({k: v + 1 for k, v in losses_of().items()}), *log_of(SEED="3")]
    code, text = run(tmp_path / "run", write(tmp_path / "both", both), capsys=capsys)
    assert (code, "1 differ" in text) == (0, False)


def test_a_torn_log_is_compared_as_far_as_it_goes(tmp_path, capsys):
    whole = log_of()
    a = write(tmp_path / "a.txt", whole)
    cut = next(i for i, line in enumerate(whole) if line.startswith("epoch [3/3] batch [2/"))
    torn = whole[cut].replace("loss 2.68", "loss 9.9")  # a number that lost its end
    b = write(tmp_path / "b.txt", [*whole[:cut], torn], end="")
    code, text = run(a, b, capsys=capsys)
    assert code == 0
    assert "the last step printed is epoch 3, batch 5 / epoch 3, batch 1" in text
    assert "correct    not in this log (B)" in text


def results(draw="a" * 64, **values):
    return {"split": "test", "correct": 38, "total": 1150, "draw_sha256": draw} | values


def test_folders_compare_their_draws_and_recorded_counts(tmp_path, capsys):
    for name, draw in (("a", "a" * 64), ("b", "b" * 64), ("c", "a" * 64)):
        lines = [*config_of(), *FRESH, *lines_of(losses_of()), *result_of(1)]
        write(tmp_path / name / "log.txt", lines)
        write(tmp_path / name / "results.json", [json.dumps(results(draw))])
    code, text = run(tmp_path / "a", tmp_path / "b", capsys=capsys)
    assert code == 1
    assert "! draw           sha256 aaaaaaaaaaaa... / bbbbbbbbbbbb..." in text
    assert "38 of 1,150 in both" in text
    code, text = run(tmp_path / "a", tmp_path / "c", capsys=capsys)
    assert code == 0
    assert "draw           the same pictures in the same order" in text


def test_evaluations_have_counts_alone(tmp_path, capsys):
    a = write(tmp_path / "a" / "results.json", [json.dumps(results())])
    b = write(tmp_path / "b.txt", result_of())
    code, text = run(a.removesuffix("/results.json"), b, capsys=capsys)
    assert code == 0
    assert "Equal in what both logs hold; no training step is among it." in text


def test_older_logs_are_read_too(tmp_path):
    line = "epoch [1/50][5/20]\ttime 0.1 (0.2)\tdata 0.0 (0.1)\teta 0:08:47\t"
    line += "loss 2.5273 (2.5834)\tacc 31.2500 (32.5000)\tlr 1.000000e-05"
    write(tmp_path / "log.txt", [line])
    ((place, step),) = read_run(tmp_path).steps.items()
    assert (place, step.loss, step.mean_loss, step.lr) == ((1, 5), 2.5273, 2.5834, 1e-5)


WRONG = [
    (lambda path: None, r"No log or run folder at"),
    (lambda path: path.mkdir(), r"holds neither log\.txt nor results\.json"),
    (lambda path: path.write_text("hello\n"), r"has no training step and no result"),
    (lambda path: path.write_bytes(bytes(range(256)) * 40), r"has no training step and no result"),
    (lambda path: path.write_text(""), r"has no training step and no result"),
    (lambda path: write(path / "results.json", ["{"]), r"results\.json cannot be read"),
    (lambda path: write(path / "results.json", ["[1]"]), r"results\.json does not hold a run"),
    (lambda path: write(path, result_of(split="val")), r"have nothing in common"),
]


@pytest.mark.parametrize(("make", "message"), WRONG)
def test_what_is_no_run_is_answered_in_one_sentence(tmp_path, capsys, make, message):
    make(tmp_path / "wrong")
    assert main([str(PUBLISHED), str(tmp_path / "wrong")]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert re.search(message, line)


def test_the_command_answers_without_loading_torch(tmp_path):
    code = "import sys, benchmarks.compare as c; c.main(sys.argv[1:]); assert 'torch' not in sys.modules"  # noqa: E501
    done = subprocess.run(
        [sys.executable, "-c", code, PUBLISHED, PUBLISHED],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_the_commands_of_readme_and_help_are_understood():
    pattern = r"python -m benchmarks\.compare (.*)"
    commands = re.findall(pattern, (REPOSITORY / "README.md").read_text())
    assert commands
    for command in [*commands, *re.findall(pattern, build_parser().description)]:
        build_parser().parse_args(command.split())
