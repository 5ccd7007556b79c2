"""The runs of a sweep as Ray tasks: one machine or many, retried when a node dies.

    pip install -r requirements-cluster.txt
    python scripts/sweep.py base_to_novel --engine ray --address auto

All machines see the same repository and output folder. Claims and results.json decide what is
finished, as without Ray.
"""

import os
import time
from typing import Any

from sweep.execution import REPOSITORY, Outcome, Settings, execute
from sweep.runs import Run

__all__ = ["run_on_ray"]

BUSY_S = 2.0


def run_on_ray(runs: list[Run], settings: Settings, address: str | None) -> dict[Run, Outcome]:
    """What became of each run.

    Raises:
        ModuleNotFoundError: Ray is not installed.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "--engine ray needs: pip install -r requirements-cluster.txt"
        ) from error
    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    task = ray.remote(num_gpus=gpus, num_cpus=1, max_retries=-1)(_run)
    references: dict[Run, Any] = {}
    by_output = {run.output: run for run in runs}
    for run in sorted(runs, key=lambda run: bool(run.model)):  # trainings first
        trained = by_output.get(run.model)
        needed = references[trained] if trained else Outcome("finished")
        references[run] = task.remote(run, settings, needed)
    outcomes = {}
    for run, reference in references.items():
        outcomes[run] = ray.get(reference)
        state, detail = outcomes[run]
        print(f"[{len(outcomes)} of {len(runs)}] {state}: {run.name} {detail}", flush=True)
    return outcomes


def _run(run: Run, settings: Settings, training: Outcome) -> Outcome:
    os.chdir(REPOSITORY)
    if training.state != "finished":
        return Outcome("failed", f"its training {training.state}")
    while True:
        outcome = execute(run, settings, {})
        if outcome.state != "busy":
            return outcome
        time.sleep(BUSY_S)
