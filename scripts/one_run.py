"""One published run in the foreground: what scripts/mmrl/*.sh and scripts/mmrlpp/*.sh call.

DATA=/data python scripts/one_run.py base_to_novel train mmrl eurosat 1
DATA=/data python scripts/one_run.py few_shot train mmrlpp dtd 1 16 TRAIN.PRINT_FREQ 5

--trainer-module FILE.py and --dataset-module FILE.py bring a method or a data set of your own.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from interpreter import REPOSITORY, hand_over

if __name__ == "__main__":
    hand_over()

from dassl.errors import RequestError, in_one_sentence
from options import Parser, add_module_options
from sweep.choices import load_own
from sweep.runs import Run, list_runs
from sweep.settings import Settings, command


def find_run(
    protocol: str, part: str, method: str, dataset: str, seed: str, shots: str = "16"
) -> Run:
    """The run of a protocol that trains (`train`) or evaluates (`test`) on a data set.

    Raises:
        RequestError: there is no such protocol, or it has no such run.
    """
    for what, number in (("SEED", seed), ("SHOTS", shots)):
        if not number.isdecimal():
            raise RequestError(f"{what} must be a whole number, got {number!r}")
    if part not in ("train", "test"):
        raise RequestError(f"the part must be train or test, got {part!r}")
    runs = list_runs(protocol, [method], [dataset], [int(seed)], [int(shots)])
    is_test = part == "test"
    found = [run for run in runs if run.dataset == dataset and bool(run.model) == is_test]
    if not found:
        raise RequestError(f"{protocol} does not {part} on {dataset!r}")
    return found[0]


def own_modules(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The --trainer-module and --dataset-module of a command line, and its other words."""
    parser = Parser(add_help=False, allow_abbrev=False)
    add_module_options(parser)
    return parser.parse_known_args(words)


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Replace this process by train.py; the exit code if that fails."""
    words = sys.argv[1:] if argv is None else argv
    own, words = own_modules(words)
    count = 6 if words[:1] == ["few_shot"] else 5
    if len(words) < count or not os.environ.get("DATA"):
        usage = "PROTOCOL train|test METHOD DATASET SEED [SHOTS] [KEY VALUE ...]"
        print(f"usage: DATA=/path python scripts/one_run.py {usage}", file=sys.stderr)
        return 2
    load_own(own.trainer_module, own.dataset_module)
    run = find_run(*words[:count])
    os.chdir(REPOSITORY)
    settings = Settings(
        root=os.environ["DATA"],
        opts=tuple(words[count:]),
        trainer_modules=tuple(own.trainer_module),
        dataset_modules=tuple(own.dataset_module),
    )
    call = command(run, settings)
    try:
        os.execvp(call[0], call)
    except OSError as error:
        print(f"error: cannot start {call[0]}: {error.strerror}; set PYTHON", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
