"""results.json: everything needed to compare and repeat a run, written last and whole."""

import json
import platform
import sys
import time
from pathlib import Path
from typing import Any

import torch
from yacs.config import CfgNode

from dassl.utils.tools import system_lines
from dassl.whole_files import write_text
from run_files import RESULTS_FILE, RunResults
from trainer.checkpoints.identity import Identity, seal
from trainer.checkpoints.settings import OF_TRAINING
from trainer.config import flatten

__all__ = ["collect_results", "device_name", "write_resolved_config"]


def write_resolved_config(cfg: CfgNode) -> None:
    """The config as it came out of all sources, as `OUTPUT_DIR/config.yaml`."""
    write_text(Path(cfg.OUTPUT_DIR, "config.yaml"), cfg.dump())


def collect_results(
    trainer: Any, origins: dict[str, str], started: float, directory: str
) -> RunResults:
    """The results.json of `directory`; `started` is `time.time()` at the start of the program.

    Accuracy, error and macro F1 are in percent, not rounded; memory is in MiB. Trainers without an
    identity leave none.
    """
    cfg = trainer.cfg
    node = cfg.TRAINER.get(cfg.TRAINER.NAME, {})
    values = flatten(cfg)
    identity = getattr(trainer, "identity", None)
    if identity:  # of several models in one pass, each has its own
        values |= {key: identity.settings[key] for key in OF_TRAINING}
    found = {
        "trainer": cfg.TRAINER.NAME,
        "dataset": cfg.DATASET.NAME,
        "dataset_label": cfg.DATASET.LABEL or getattr(trainer.dm.dataset, "label", ""),
        "subsample_classes": cfg.DATASET.SUBSAMPLE_CLASSES,
        "num_shots": values["DATASET.NUM_SHOTS"],
        "task": cfg.TASK,
        "seed": values["SEED"],
        **trainer.results,
        "run_seconds": time.time() - started,
        "peak_memory_mib": _peak_memory(trainer.device),
        "device": device_name(trainer.device),
        "precision": node.get("PREC", "fp32"),
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "loader": _loader_of(trainer),
        "draw_sha256": getattr(trainer.dm.dataset, "draw_hash", None),
        "draw_note": getattr(trainer.dm.dataset, "draw_note", None),
        "classnames": list(trainer.dm.dataset.classnames),
        "config": {key: values[key] for key in sorted(values)},
        "origins": {key: origins[key] for key in sorted(origins)},
    }
    if identity:
        found = _sealed(found, identity)
    return RunResults.of(found, Path(directory or ".", RESULTS_FILE))


def _sealed(found: dict[str, Any], identity: Identity) -> dict[str, Any]:
    values = json.loads(json.dumps(found))  # the digest is of what a reader gets
    return seal(values, identity)


def _peak_memory(device: torch.device) -> dict[str, float | None]:
    peak = {"process": _process_memory()}
    if device.type == "cuda":
        peak["gpu"] = torch.cuda.max_memory_allocated(device) / 2**20
    return peak


def _process_memory() -> float | None:
    """The largest this process has been, in MiB; None where the system does not say (Windows)."""
    try:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    except (ImportError, AttributeError, OSError):
        return None
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes, Linux KiB


def _loader_of(trainer: Any) -> dict[str, int]:
    """The workers whose random numbers were drawn, and the processes that hosted them."""
    loader = trainer.train_loader_x
    return {"num_workers": loader.num_streams, "processes": loader.num_workers}


def device_name(device: torch.device) -> str:
    """The GPU's or the processor's name."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    models = [line for line in system_lines("/proc/cpuinfo") if line.startswith("model name")]
    return models[0].split(":", 1)[1].strip() if models else platform.machine()
