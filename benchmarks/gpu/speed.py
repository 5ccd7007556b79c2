"""Seconds, kernels and memory of a step in every form, and pictures per second of evaluation.

The first loss of every form is compared with the eager one's in float32; the captured step has to
be at least `LEAST_GAIN` times as fast as the plain one in PREC amp.
"""

import csv
import gc
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.gpu.forms import FORMS, TINY, VIT_B16, Setting, Step, make_evaluation, make_step
from benchmarks.gpu.report import Report
from benchmarks.measure import count_kernels, step_memory, wait
from trainer.graph import CudaGraph

__all__ = ["COLUMNS", "check_speed", "write_rows"]

COLUMNS = (
    "device torch mode method prec form classes batch seconds kernels gib images_per_second"
).split()
CLASSES = (5, 50, 100)
LEAST_GAIN = 5.0
LOSS_BOUND = {"fp32": 1e-3, "amp": 2e-2}  # of a first loss, relative
WARM_UP, REPEAT = 3, 20
COMPILE_UNTIL_SECONDS = 300  # of the whole check: a compiler takes about a minute a row


class Plan(NamedTuple):
    """What is timed, on what."""

    device: torch.device
    quick: bool
    make_graph: Callable[[], Any] = CudaGraph

    @property
    def settings(self) -> Iterator[Setting]:
        """Those of a comparison of all forms."""
        for method in ("MMRL",) if self.quick else ("MMRL", "MMRLpp"):
            for prec in ("amp", "fp32"):
                for classes in CLASSES[:1] if self.quick else CLASSES:
                    yield Setting(method, prec, classes, 4)

    @property
    def long_settings(self) -> list[Setting]:
        """Larger batches, which the hours of all runs are computed from, with longer lists."""
        return [] if self.quick else [Setting("MMRL", "amp", n, 32) for n in (5, 100)]


def seconds_of(run: Callable[[], Any], device: torch.device, repeat: int = REPEAT) -> float:
    """Mean seconds of a call, by the device's own clock where it has one."""
    for _ in range(WARM_UP):
        run()
    wait(device)
    if device.type != "cuda":
        start = time.perf_counter()
        for _ in range(repeat):
            run()
        return (time.perf_counter() - start) / repeat
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(repeat):
        run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / repeat  # milliseconds


def check_speed(report: Report, plan: Plan, device_name: str) -> list[dict]:
    """Time everything and judge it; the rows of the CSV file."""
    rows = []
    for setting in plan.settings:
        rows += compare_forms(report, plan, setting, [f for f in FORMS if f != "compiled"])
    for setting in plan.long_settings:
        rows.append(measure(plan, setting, "graph")[0])
        report.note(describe(rows[-1]))
    for setting in plan.settings:
        if report.seconds > COMPILE_UNTIL_SECONDS:
            report.note(f"left out: {setting} compiled, there is no time left")
            continue
        rows += compare_forms(report, plan, setting, ["compiled"])
    rows += evaluate(report, plan)
    fixed = {"device": device_name, "torch": torch.__version__}
    return [fixed | row for row in rows]


def compare_forms(report: Report, plan: Plan, setting: Setting, forms: list[str]) -> list[dict]:
    """The rows of some forms, and what has to hold among them."""
    rows, losses = {}, {}
    for form in forms:
        rows[form], losses[form] = measure(plan, setting, form)
        report.note(describe(rows[form]))
        if form == "graph":
            is_on = rows[form].pop("is_captured")
            expected = plan.device.type == "cuda"
            report.check(f"{setting}, graph", is_on == expected, str(is_on), str(expected))
    want = float(
        make_step(setting._replace(prec="fp32"), "eager", plan.device, sizes_of(plan)).run()
    )
    for form, loss in losses.items():
        gap = abs(loss - want) / abs(want)
        report.below(f"{setting}, {form}, first loss, relative", gap, LOSS_BOUND[setting.prec])
    if {"plain", "graph"} <= set(rows) and setting.prec == "amp" and plan.device.type == "cuda":
        gain = rows["plain"]["seconds"] / rows["graph"]["seconds"]
        report.above(f"{setting}, graph, times faster than plain", gain, LEAST_GAIN)
    return list(rows.values())


def measure(plan: Plan, setting: Setting, form: str) -> tuple[dict, float]:
    """(the row of one form, its first loss)."""
    step = make_step(setting, form, plan.device, sizes_of(plan), plan.make_graph)
    loss = float(step.run())
    row = _row(plan, setting, "train", form, step)
    captured = step.training.captured if step.training else None
    if captured is not None:
        row["is_captured"] = captured.is_replaying
    del step
    gc.collect()
    return row, loss


def evaluate(report: Report, plan: Plan) -> list[dict]:
    """Evaluation as published, in float32, and in half precision."""
    rows = []
    for prec in ("fp32", "bf16"):
        setting = Setting("MMRL", prec, CLASSES[0], 4) if plan.quick else None
        setting = setting or Setting("MMRL", prec, CLASSES[-1], 250)
        step = make_evaluation(setting, plan.device, sizes_of(plan))
        is_finite = bool(step.run().isfinite().all())
        report.check(f"{setting}, evaluation, scores", is_finite, str(is_finite), "all finite")
        rows.append(_row(plan, setting, "eval", "eager", step))
        report.note(describe(rows[-1]))
    return rows


def _row(plan: Plan, setting: Setting, mode: str, form: str, step: Step) -> dict:
    device = plan.device
    seconds = seconds_of(step.run, device, 2 if plan.quick else REPEAT)
    is_cuda = device.type == "cuda"
    return {
        "mode": mode,
        "method": setting.method,
        "prec": setting.prec,
        "form": form,
        "classes": setting.classes,
        "batch": setting.batch,
        "seconds": float(f"{seconds:.4g}"),
        "kernels": count_kernels(step.run, device) if is_cuda else "",
        "gib": float(f"{step_memory(step.run, device):.4g}") if is_cuda else "",
        "images_per_second": float(f"{setting.batch / seconds:.4g}"),
    }


def sizes_of(plan: Plan) -> Any:
    """ViT-B/16's, or a tiny CLIP's."""
    return TINY if plan.quick else VIT_B16


def describe(row: dict) -> str:
    """A row in words."""
    parts = [f"{1000 * row['seconds']:.2f} ms", f"{row['images_per_second']:g} pictures per second"]
    if row["kernels"] != "":
        parts += [f"{row['kernels']} kernels", f"{row['gib']} GiB"]
    name = f"{row['method']} {row['prec']} {row['classes']} x {row['batch']}"
    return f"{row['mode']} {name} {row['form']}: {', '.join(parts)}"


def write_rows(rows: list[dict], path: Path) -> None:
    """The CSV file of a card, afresh."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n", extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
