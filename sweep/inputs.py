"""What finished runs would read if they were done now: their CLIP and their draw.

Both may have been replaced behind the same name since: such a run is not the one that is asked for.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

from dassl.errors import RequestError
from interpreter import complaint
from run_files import RESULTS_FILE, RunResults
from sweep.runs import Run
from sweep.settings import Inputs, Settings, config_of, folder_of

__all__ = ["Present", "inputs_of_finished"]


def inputs_of_finished(runs: Sequence[Run], settings: Settings) -> dict[str, Inputs]:
    """By output, of the runs that have results which say what they were made of.

    Raises:
        RequestError: a backbone's file is not one of a CLIP.
    """
    if complaint():  # configs cannot be resolved here, nor compared
        return {}
    present = Present({run.output: run for run in runs})
    finished = [run for run in runs if _says_what_it_is(run, settings)]
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        return {run.output: present.inputs(run, settings) for run in finished}


def _says_what_it_is(run: Run, settings: Settings) -> bool:
    folder = folder_of(run, settings)
    try:
        return (folder / RESULTS_FILE).is_file() and bool(RunResults.read(folder).identity)
    except (OSError, RequestError):
        return False  # it is a conflict in any case, or gone


class Present:
    """Reads each CLIP once, and each draw once for all methods."""

    def __init__(self, runs: Mapping[str, Run]) -> None:
        self._runs = runs  # by output
        self._clips: dict[str, str] = {}
        self._draws: dict[str, str] = {}

    def inputs(self, run: Run, settings: Settings) -> Inputs:
        """What the run would read now.

        Raises:
            RequestError: the backbone's file is not one of a CLIP.
        """
        try:
            clip = self._clip(config_of(run, settings))
        except RequestError:
            return Inputs()  # the run's outcome will say so
        # An evaluation's results carry the draw that the model was trained on.
        trained = self._runs.get(run.model) if run.model else run
        return Inputs(self._draw(config_of(trained, settings)) if trained else "", clip)

    def _clip(self, cfg: Any) -> str:
        from trainer.backbone import fingerprint_of

        key = cfg.MODEL.BACKBONE.dump()  # its activation is part of it
        if key not in self._clips:
            self._clips[key] = fingerprint_of(cfg)
        return self._clips[key]

    def _draw(self, cfg: Any) -> str:
        import datasets  # noqa: F401  registers the readers
        from datasets.base import draw_hash_of

        key = f"{cfg.DATASET.dump()}{cfg.SEED}"
        if key not in self._draws:
            try:
                self._draws[key] = draw_hash_of(cfg)
            except (OSError, RequestError):
                self._draws[key] = ""  # results may outlive their data set
        return self._draws[key]
