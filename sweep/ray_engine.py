"""The runs of a sweep as Ray tasks: one machine or many, retried when a node dies.

    pip install -r requirements-cluster.txt
    python scripts/sweep.py base_to_novel --engine ray --address auto

All machines see the same repository and output folder. Claims and results.json decide what is
finished, as without Ray. Without an address Ray is started here, and listens to this machine alone;
whoever reaches a cluster's ports can run anything on it, so give it a token (RAY_AUTH_MODE).
"""

import os
import time
from typing import Any

from dassl.errors import RequestError
from interpreter import REPOSITORY
from sweep.execution import Outcome, State, execute, failure
from sweep.runs import Run
from sweep.settings import Settings

__all__ = ["run_on_ray"]

BUSY_S = 2.0
_LOOPBACK = "127.0.0.1"


def run_on_ray(runs: list[Run], settings: Settings, address: str | None) -> dict[Run, Outcome]:
    """What became of each run.

    Raises:
        RequestError: Ray is not installed.
        ConnectionError: there is no cluster at the address.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise RequestError("--engine ray needs: pip install -r requirements-cluster.txt") from error
    is_local = not (address or os.environ.get("RAY_ADDRESS"))
    # Ray executes what its ports are told; one that only this program uses hides them.
    own = {"_node_ip_address": _LOOPBACK, "include_dashboard": False} if is_local else {}
    ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, **own)
    gpus = 1 if ray.cluster_resources().get("GPU") else 0
    task = ray.remote(num_gpus=gpus, num_cpus=1, max_retries=-1)(_run)
    references: dict[Run, Any] = {}
    by_output = {run.output: run for run in runs}
    # Trainings first: an evaluation takes its training's reference, and Ray waits for that.
    for run in sorted(runs, key=lambda run: bool(run.model)):
        trained = by_output.get(run.model)
        references[run] = task.remote(run, settings, references[trained] if trained else None)
    outcomes: dict[Run, Outcome] = {}
    for run, reference in references.items():
        try:
            outcomes[run] = ray.get(reference)
        except Exception as error:  # Ray's own: a worker that died, an object that was lost
            outcomes[run] = failure(error)
        end = outcomes[run]
        words = f"{end.state.value}: {run.name}{end.about}"
        print(f"[{len(outcomes)} of {len(runs)}] {words}", flush=True)
    return outcomes


def _run(run: Run, settings: Settings, training: Outcome | None) -> Outcome:
    os.chdir(REPOSITORY)
    while True:
        outcome = execute(run, settings, {}, training)
        if outcome.state is not State.BUSY:
            return outcome
        time.sleep(BUSY_S)
