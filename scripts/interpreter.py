"""Stands in for the repository's interpreter.py where a command is started by its path.

`python scripts/sweep.py` searches scripts/ for modules, and not the repository. Its first import of
ours is therefore found here: this puts the repository first, and hands on the real interpreter.py.
`python -m scripts.sweep` finds that one at once.
"""

import importlib
import sys
from pathlib import Path

if __name__ == "interpreter":
    # Before scripts/, where sweep.py and report.py would hide the packages of their names.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    # An import returns what stands under its name in the end: the real one, from here on.
    del sys.modules[__name__]
    importlib.import_module(__name__)
