"""predict.py's page: pictures with bars of their classes, in one HTML file."""

import base64
import io
from collections.abc import Sequence
from typing import Any

from dassl.utils import read_image
from report.palette import PAGE_COLOURS
from report.text import in_html

__all__ = ["STYLE", "thumbnail", "to_page"]

STYLE = (
    PAGE_COLOURS
    + """
body { font: 15px/1.4 system-ui, sans-serif; margin: 0 auto; max-width: 75rem; padding: 1rem }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)) }
article { border: 1px solid var(--line); border-radius: .5rem; padding: .75rem; min-width: 0 }
img { width: 100%; height: 11rem; object-fit: contain; background: #8881 }
h2 { font-size: .85rem; margin: .4rem 0; overflow-wrap: anywhere; font-weight: 500 }
.row { position: relative; margin: .2rem 0; padding: 0 .4rem; display: flex;
  justify-content: space-between; gap: .5rem }
.row span { position: relative; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.bar { position: absolute; inset: 0 auto 0 0; background: var(--bar); opacity: .3;
  border-radius: .2rem }
.right { color: var(--good) } .wrong { color: var(--bad) }
@media print { article { break-inside: avoid } main { grid-template-columns: repeat(3, 1fr) } }
"""
)


def to_page(rows: Sequence[Any], reads: str) -> str:
    """The page: by confidence, or worst first where the truth is known from folder names."""
    known = [row for row in rows if row.truth]
    right = sum(row.truth == row.names[0] for row in known)
    ordered = sorted(rows, key=_badness, reverse=True) if known else sorted(rows, key=_doubt)
    summary = f"{len(rows)} pictures, read from the {reads}"
    if known:
        summary += f"; {right} of {len(known)} with a known class are right; worst first"
    cards = "".join(map(_card, ordered))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>Predictions</title><style>{STYLE}</style><body><h1>Predictions</h1>"
        f"<p>{in_html(summary)}</p><main>{cards}</main></body></html>\n"
    )


def _badness(row: Any) -> float:
    """How sure the model is of something wrong."""
    if not row.truth:
        return 0.0
    return row.probabilities[0] if row.truth != row.names[0] else -row.probabilities[0]


def _doubt(row: Any) -> float:
    return -row.probabilities[0]


def _card(row: Any) -> str:
    bars = "".join(
        f"<div class=row><div class=bar style='width:{100 * p:.1f}%'></div>"
        f"<span>{in_html(name)}</span><span>{100 * p:.1f}%</span></div>"
        for name, p in zip(row.names, row.probabilities, strict=True)
    )
    verdict = ""
    if row.truth:
        kind = "right" if row.truth == row.names[0] else "wrong"
        verdict = f"<div class={kind}>{kind}: {in_html(row.truth)}</div>"
    path = in_html(row.path)
    image = f"<img alt='{path}' src='{thumbnail(row.path)}'>"
    return f"<article>{image}<h2>{path}</h2>{bars}{verdict}</article>"


def thumbnail(path: str) -> str:
    """A small JPEG of the picture at `path`, as a URL that holds it."""
    image = read_image(path)
    image.thumbnail((320, 320))
    text = io.BytesIO()
    image.save(text, format="JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(text.getvalue()).decode()}"
