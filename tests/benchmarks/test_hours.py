"""Hours of the protocols: from the published runs, a machine's rates, and the data's sizes."""

import csv

import pytest

from benchmarks import hours, rates, roofline
from benchmarks.hours import Machine, hours_of, work_of
from benchmarks.rates import Rates, Row, measured_rates, rates_from
from sweep.runs import PROTOCOLS, list_runs

FAST = Rates("fast", "measured", 0.1, 0.0, 0.0, 0.0, evaluated_per_second=100.0)


def the_run(protocol, **wanted):
    for run in list_runs(protocol):
        if all(getattr(run, key) == value for key, value in wanted.items()):
            return run
    raise AssertionError(wanted)


@pytest.mark.parametrize(
    ("protocol", "wanted", "steps", "classes", "tested"),
    [
        ("base_to_novel", {"dataset": "eurosat", "subsample": "base"}, 10 * 20, 5, 4050),
        ("base_to_novel", {"dataset": "eurosat", "subsample": "new"}, 0, 5, 4050),
        ("base_to_novel", {"dataset": "oxford_pets", "subsample": "base"}, 10 * 76, 19, 1884),
        ("cross_datasets", {"dataset": "imagenet"}, 500, 1000, 50000),
        ("cross_datasets", {"dataset": "imagenet_r"}, 0, 200, 30000),
        ("few_shot", {"dataset": "eurosat", "shots": 1}, 100, 10, 8100),  # ten pictures, batch 32
        ("few_shot", {"dataset": "imagenet", "shots": 16}, 5 * 500, 1000, 50000),
    ],
)
def test_work_of_a_run(protocol, wanted, steps, classes, tested):
    work = work_of(the_run(protocol, **wanted))
    assert (work.steps, work.classes, work.tested) == (steps, classes, tested)


def test_every_published_run_is_counted():
    machine = Machine(FAST, loaded_per_second=1e9, start_seconds=0.0)
    found = [hours_of(list_runs(name), machine, share=True) for name in PROTOCOLS]
    assert sum(found_hours.runs for found_hours in found) == 552


def test_shared_evaluations_decode_once_and_run_the_lower_layers_once():
    runs = [r for r in list_runs("base_to_novel", datasets=["eurosat"]) if r.subsample == "new"]
    slow_loader = Machine(FAST, loaded_per_second=10.0, start_seconds=9.0)
    slow_device = Machine(FAST, loaded_per_second=1e9, start_seconds=9.0)
    assert len(runs) == 6
    for machine, ratio in ((slow_loader, 6 * 405 / 405), (slow_device, 6 / (5 / 12 + 6 * 7 / 12))):
        lone, shared = (hours_of(runs, machine, share) for share in (False, True))
        assert lone.testing / shared.testing == pytest.approx(ratio)
        assert (lone.starting, shared.starting) == pytest.approx((6 * 9 / 3600, 9 / 3600))


def test_the_slower_of_loading_and_stepping_counts():
    (run,) = list_runs("few_shot", ["mmrl"], ["eurosat"], seeds=[1], shots=[16])
    for loaded, seconds in ((1e9, 0.1), (32.0, 1.0)):
        found = hours_of([run], Machine(FAST, loaded, 0.0), share=True)
        assert found.training == pytest.approx(50 * 5 * seconds / 3600)


def test_a_fit_returns_the_rows_that_it_was_made_of():
    settings = [(5, 4), (100, 4), (100, 32), (1000, 32)]
    rows = [Row("train", c, b, 0.01 + 1e-4 * c + 1e-3 * b) for c, b in settings]
    fitted = rates_from("x", "model", [*rows, Row("eval", 5, 4, 0.5), Row("eval", 5, 250, 5.0)])
    assert fitted.step_seconds(500, 8) == pytest.approx(0.068)
    assert fitted.step_seconds(0, 0) == pytest.approx(0.0145)  # not below the fastest row
    assert fitted.evaluated_per_second == 50.0
    with pytest.raises(ValueError, match="rows of x lack training or evaluation"):
        rates_from("x", "model", rows)


def test_a_card_s_file_gives_the_rates_of_the_captured_step(tmp_path):
    lines = [
        ("Big Card", "train", "eager", "amp", 5, 4, 0.02),
        ("Big Card", "train", "graph", "amp", 5, 4, 0.005),
        ("Big Card", "train", "graph", "fp32", 5, 4, 0.01),
        ("Big Card", "eval", "eager", "fp32", 100, 250, 0.5),
    ]
    with open(tmp_path / "big-card.csv", "w", newline="") as file:
        columns = ("device", "mode", "form", "prec", "classes", "batch", "seconds")
        csv.writer(file).writerows([columns, *lines])
    found = measured_rates(tmp_path)["Big Card"]
    assert (found.kind, found.least, found.evaluated_per_second) == ("measured", 0.005, 500.0)


def test_a_measured_card_is_not_modelled(monkeypatch):
    measured = {"NVIDIA H100 80GB HBM3": FAST}
    monkeypatch.setattr(hours, "measured_rates", lambda: measured)
    assert hours.choose_rates("h100") == [FAST]
    with pytest.raises(ValueError, match=r"No card is called 'H1000'; choose from NVIDIA H100"):
        hours.choose_rates("H1000")


def test_the_model_counts_the_arithmetic_that_was_measured():
    """GFLOP of MMRL at 5 classes, batch 4: 267 counted on a CPU."""
    works = roofline.step_work("MMRL", 5, 4)
    assert sum(work.flop for work in works) / 1e9 == pytest.approx(267, rel=0.1)
    assert sum(work.is_half for work in works if work.flop) > 200


def test_a_modelled_operation_takes_the_longest_of_three():
    card = roofline.Card(half_tflops=100, float_tflops=10, gigabytes_per_second=1000)
    times = {
        roofline.Work(1e12, 0, True): 0.02,
        roofline.Work(1e12, 0, False): 0.2,
        roofline.Work(1e9, 1e9, True): 0.002,
        roofline.Work(0, 8, False): roofline.LAUNCH_SECONDS,
    }
    for work, seconds in times.items():
        assert roofline.seconds_on(card, [work], efficiency=0.5) == pytest.approx(seconds)
    assert roofline.seconds_on(card, list(times)) == pytest.approx(sum(times.values()))


def test_what_is_modelled_says_so(monkeypatch, capsys):
    model = FAST._replace(machine="H100", kind="model")
    monkeypatch.setattr(hours, "choose_rates", lambda card: [FAST, model])
    assert hours.main(["--pictures-per-second", "100", "--cores", "4"]) == 0
    out = capsys.readouterr().out
    assert "4 cores decode 100 pictures per second each" in out
    assert "fast: from measured steps" in out
    assert "H100: MODEL, NOT MEASURED" in out
    assert out.count("| all | 552 |") == 2


def test_rates_must_be_above_nothing(capsys):
    with pytest.raises(SystemExit):
        hours.main(["--cores", "0"])
    assert "--cores and --pictures-per-second are above 0" in capsys.readouterr().err


def test_pictures_per_second_are_those_of_the_slowest_batch_size(tmp_path):
    (tmp_path / "pipeline.csv").write_text("batch,uncached\n4,278.8\n32,250\n")
    assert rates.loading_rate(tmp_path) == 250
