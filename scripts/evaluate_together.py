"""Evaluate several runs in one pass over the pictures: a sweep calls this, people need not.

    python -m scripts.evaluate_together ARGUMENTS --and ARGUMENTS ...

ARGUMENTS are those of train.py. Every run leaves what train.py would leave, and prints to
console.txt in its own folder. One that fails leaves no results.json, and does not stop the others:
the sweep then calls train.py for it, which says why. Runs that see other pictures than the first
are evaluated in a pass of their own.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from interpreter import require_torch

if __name__ == "__main__":
    require_torch()

import torch

import train
from run_files import EVALUATED
from sweep.settings import CONSOLE
from sweep.sharing import AND
from trainer.evaluation import request
from trainer.evaluation.results import collect_results, write_resolved_config
from trainer.evaluation.tally import conclude
from trainer.evaluation.together import Member, View, pass_over


class Evaluation(NamedTuple):
    """One run: what train.py makes of its arguments, and where it prints."""

    args: argparse.Namespace
    member: Member
    loader: Any
    origins: dict[str, str]
    started: float  # `time.time()`
    console: TextIO
    output: TextIO  # console and log


Passes = dict[View, list[Evaluation]]


def split_words(words: Sequence[str]) -> list[list[str]]:
    """The arguments of each run."""
    runs: list[list[str]] = [[]]
    for word in words:
        if word == AND:
            runs.append([])
        else:
            runs[-1].append(word)
    return runs


@contextlib.contextmanager
def printing_to(output: TextIO, console: TextIO) -> Iterator[None]:
    """Let what a run prints go to its own files, the failure that ends it too."""
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(console):
        try:
            yield
        except Exception as error:  # its own affair: the others go on
            print(f"Left out of the pass: {type(error).__name__}: {error}")


class Consoles:
    """A file that writes to all runs' consoles, so that none of them seems silent."""

    def __init__(self, files: Sequence[TextIO]) -> None:
        self.files = files

    def write(self, text: str) -> int:
        """Write `text` to each; returns its length."""
        for file in self.files:
            file.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush each."""
        for file in self.files:
            file.flush()


def prepare(words: list[str], passes: Passes, held: contextlib.ExitStack) -> None:
    """Build a run's model and put it into the pass of those that see the same.

    `held` keeps other commands out of its folder until it is closed.
    """
    started = time.time()
    args = train.parse(words)
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    console = open(folder / CONSOLE, "a", buffering=1, encoding="utf-8")
    with printing_to(console, console):
        trainer, origins = train.prepare(args, held)
        request.identify(trainer, args.model_dir[0], args.load_epoch)
        write_resolved_config(trainer.cfg)
        trainer.set_model_mode("eval")
        split, loader = trainer.choose_split(None)
        group = passes.setdefault(View.of(trainer, loader.dataset.data_source), [])
        member = Member.of(trainer, split, trainer.evaluator)
        if group:
            # before the next CLIP is loaded, so that two are held at most
            trainer.borrow_tower(group[0].member.trainer)
        group.append(Evaluation(args, member, loader, origins, started, console, sys.stdout))


def run_pass(runs: list[Evaluation]) -> None:
    """Evaluate runs that see the same; each writes its results."""
    names = ", ".join(run.args.output_dir for run in runs)
    for run in runs:
        print(f"One pass over the pictures for: {names}", file=run.output)
    consoles = Consoles([run.console for run in runs])
    pass_over([run.member for run in runs], runs[0].loader, consoles)
    for run in runs:
        with printing_to(run.output, run.console):
            finish(run)


def finish(run: Evaluation) -> None:
    """Write what train.py writes at the end."""
    trainer = run.member.trainer
    figures = conclude(trainer, run.member.split, run.member.tally)
    trainer.results = figures | {EVALUATED: run.args.model_dir[0]}
    found = collect_results(trainer, run.origins, run.started, trainer.cfg.OUTPUT_DIR)
    print(f"Results are in {found.write()}")


@torch.no_grad()
def main(argv: list[str] | None = None) -> int:
    """Prepare all, then a pass for each view; 0, whatever became of single runs."""
    passes: Passes = {}
    with contextlib.ExitStack() as held:
        for words in split_words(sys.argv[1:] if argv is None else argv):
            prepare(words, passes, held)
        for runs in passes.values():
            if runs:
                run_pass(runs)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
