"""Stands in for python in sweeps: notes its arguments, and leaves a results.json if asked to."""

import fcntl
import json
import os
import sys
from pathlib import Path

arguments = sys.argv[2:]  # behind train.py
with open(os.environ["RECORD"], "a") as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    file.write(json.dumps(arguments) + "\n")
if os.environ.get("FAIL", "never") in " ".join(arguments):
    print("first line\nthe reason")
    sys.exit(3)
if "NO_RESULTS" not in os.environ:
    folder = Path(arguments[arguments.index("--output-dir") + 1])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text("{}")
