import importlib.util
import multiprocessing
import os
import subprocess
import sys

NAMES = ["clip", "datasets", "trainers", "dassl.errors", "trainer", "sweep", "options"]


def whose():
    specs = {name: importlib.util.find_spec(name) for name in NAMES}
    return {name: spec and spec.origin for name, spec in specs.items()}


def from_another_program():
    code = "import whose; print(whose.whose())"
    return eval(subprocess.check_output([sys.executable, "-c", code], text=True))


if __name__ == "__main__":
    if sys.argv[1] == "here":
        found = whose()
    elif sys.argv[1] == "program":
        found = from_another_program()
    else:
        with multiprocessing.get_context(sys.argv[1]).Pool(1) as pool:
            found = pool.apply(whose)
    print({"found": found, "argv": sys.argv, "cwd": os.getcwd()})
    sys.exit(7)
