"""dassl, for whoever has `dassl/only` on the search path, and nothing else of this project."""

from pathlib import Path

# Submodules are looked for here: in the package itself, two folders up.
__path__ = [str(Path(__file__).resolve().parents[2])]
__version__ = "0.6.3"
