"""The one palette: a colour for each method, and those of right, near and wrong, on every page."""

from collections.abc import Iterable
from itertools import cycle

__all__ = ["BAD", "COLOURS", "GOOD", "PAGE_COLOURS", "colours_of"]

# By registered trainer, in every picture of the project; other people's methods take the rest.
COLOURS = {
    "ZeroshotCLIP": "#8d99ae",
    "LinearProbe": "#6a994e",
    "TipAdapter": "#c9a227",
    "TipAdapterF": "#bc6c25",
    "MMRL": "#2a6f97",
    "MMRLpp": "#e07a5f",
}
_OTHERS = ("#9d4edd", "#3d405b", "#d62f8c", "#1b998b")
GOOD, _NEAR, BAD = "#2d6a4f", "#9a6700", "#b3261e"
# Each has a lighter twin, which is read on a dark page.
PAGE_COLOURS = f"""
:root {{ color-scheme: light dark; --line: #8886; --bar: {COLOURS["MMRL"]};
  --good: {GOOD}; --near: {_NEAR}; --bad: {BAD} }}
@media (prefers-color-scheme: dark) {{
  :root {{ --bar: #61a5c2; --good: #74c69d; --near: #e3b341; --bad: #ff8a80 }} }}
"""


def colours_of(trainers: Iterable[str]) -> dict[str, str]:
    """Trainer -> colour, for all known ones and these."""
    others = sorted(set(trainers) - COLOURS.keys())
    return COLOURS | dict(zip(others, cycle(_OTHERS), strict=False))
