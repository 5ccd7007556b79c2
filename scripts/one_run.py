"""One published run in the foreground: what scripts/mmrl/*.sh and scripts/mmrlpp/*.sh call.

DATA=/data python scripts/one_run.py base_to_novel train mmrl eurosat 1
DATA=/data python scripts/one_run.py few_shot train mmrlpp dtd 1 16 TRAIN.PRINT_FREQ 5
"""

import os
import sys

from interpreter import hand_over

if __name__ == "__main__":
    hand_over()

from dassl.errors import RequestError, in_one_sentence
from sweep.execution import REPOSITORY, Settings, command
from sweep.runs import Run, list_runs


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


@in_one_sentence
def main(argv: list[str] | None = None) -> int:
    """Replace this process by train.py; the exit code if that fails."""
    words = sys.argv[1:] if argv is None else argv
    count = 6 if words[:1] == ["few_shot"] else 5
    if len(words) < count or not os.environ.get("DATA"):
        usage = "PROTOCOL train|test mmrl|mmrlpp DATASET SEED [SHOTS] [KEY VALUE ...]"
        print(f"usage: DATA=/path python scripts/one_run.py {usage}", file=sys.stderr)
        return 2
    run = find_run(*words[:count])
    os.chdir(REPOSITORY)
    call = command(run, Settings(root=os.environ["DATA"], opts=tuple(words[count:])))
    try:
        os.execvp(call[0], call)
    except OSError as error:
        print(f"error: cannot start {call[0]}: {error.strerror}; set PYTHON", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
