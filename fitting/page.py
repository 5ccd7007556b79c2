"""page.html: the methods' table, a line per class, and every picture, the worst mistakes first."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from dassl.whole_files import write_text
from fitting.outcomes import Answer, Outcome
from fitting.plan import title
from report.gallery import STYLE, thumbnail
from report.text import in_html

__all__ = ["to_page", "write_page"]

_MOST = 500  # cards, of which each holds a small picture
_STYLE = """
table { border-collapse: collapse; width: 100% } td, th { padding: .25rem .4rem; text-align: right;
  border-bottom: 1px solid var(--line) } td:first-child, th:first-child { text-align: left }
.best td { font-weight: 700 } .note { opacity: .8 } h1, h2.part { margin: 1.2rem 0 .4rem }
h2.part { font-size: 1.15rem; font-weight: 600 }
.class { display: grid; grid-template-columns: minmax(6rem, 14rem) 1fr minmax(5rem, auto);
  gap: .15rem .6rem; padding: .3rem 0; border-bottom: 1px solid var(--line); align-items: center }
.class .name { overflow-wrap: anywhere } .class .mostly { grid-column: 1 / -1; font-size: .85rem }
.track { background: #8883; height: .7rem; border-radius: .3rem; overflow: hidden }
.track i { display: block; height: 100%; background: var(--bar) }
.filter { display: inline-block; padding: .5rem 0; margin-bottom: .4rem; cursor: pointer }
#only { width: 1.1rem; height: 1.1rem; vertical-align: -.15rem }
#only:checked ~ main .is-right { display: none } a { color: inherit }
.row.true span:first-of-type { font-weight: 700 } .row.true span:first-of-type::before {
  content: "\\2713\\a0"; color: var(--good) }
.row span:last-child { flex: none }
.scroll { overflow-x: auto }
@media (max-width: 480px) { body { padding: .6rem } td, th { padding: .25rem .2rem;
  font-size: .85rem } }
"""


def write_page(
    path: Path, outcomes: Sequence[Outcome], chosen: str, answers: Sequence[Answer]
) -> None:
    """Write the page; paths on it count from its folder."""
    write_text(path, to_page(outcomes, chosen, answers, path.parent))


def to_page(
    outcomes: Sequence[Outcome], chosen: str, answers: Sequence[Answer], folder: Path
) -> str:
    """The page on the test pictures by the `chosen` method, as it lies in `folder`."""
    ordered = sorted(answers, key=_badness, reverse=True)
    wrong = sum(not answer.is_right for answer in answers)
    shown = ordered[: max(_MOST, 1)]
    more = f" The first {len(shown)} are shown." if len(shown) < len(answers) else ""
    name = in_html(title(chosen))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        f"<title>{name}</title><style>{STYLE}{_STYLE}</style><body><h1>Methods compared</h1>"
        f"{_table(outcomes, chosen)}<h2 class=part>Classes, by {name}</h2>{_classes(answers)}"
        f"<h2 class=part>Test pictures, worst first</h2><p>{name}: {wrong} of {len(answers)} are "
        f"wrong.{more} \u2713 marks the true class.</p><input type=checkbox id=only>"
        f"<label class=filter for=only> only wrong</label>"
        f"<main>{''.join(_card(answer, folder) for answer in shown)}</main></body></html>\n"
    )


def _table(outcomes: Sequence[Outcome], chosen: str) -> str:
    head = "".join(f"<th>{h}" for h in ("method", "accuracy", "macro F1", "ECE", "s", "valid."))
    body = "".join(
        f"<tr{' class=best' * (o.method == chosen)}>{''.join(f'<td>{in_html(c)}' for c in o.cells)}"
        for o in outcomes
    )
    return (
        f"<div class=scroll><table><tr>{head}{body}</table></div><p class=note>Percent of test "
        "pictures; ECE: gap between confidence and accuracy, lower is better; s: seconds; valid.: "
        "accuracy on validation pictures, by which the bold method was chosen.</p>"
    )


def _classes(answers: Sequence[Answer]) -> str:
    """A line per class, the worst first: name, bar, count, what it is mostly taken for."""
    lines = []
    for name in {answer.truth for answer in answers}:
        own = [answer for answer in answers if answer.truth == name]
        right = sum(answer.is_right for answer in own)
        taken = Counter(answer.names[0] for answer in own if not answer.is_right)
        lines.append((right / len(own), name, right, len(own), taken.most_common(1)))
    return "".join(_class_line(*line) for line in sorted(lines))


def _class_line(
    share: float, name: str, right: int, total: int, taken: list[tuple[str, int]]
) -> str:
    mostly = ""
    if taken:
        text = f"mostly taken for {taken[0][0]} ({taken[0][1]})"
        mostly = f"<span class='mostly wrong'>{in_html(text)}</span>"
    return (
        f"<div class=class><span class=name>{in_html(name)}</span><span class=track>"
        f"<i style='width:{100 * share:.1f}%'></i></span><span>{right} of {total}</span>"
        f"{mostly}</div>"
    )


def _badness(answer: Answer) -> float:
    """How sure the model is of something wrong."""
    confidence = answer.probabilities[0]
    return -confidence if answer.is_right else confidence


def _card(answer: Answer, folder: Path) -> str:
    """A picture, linked to its file, with a bar per class; the true class is marked."""
    relative = os.path.relpath(answer.path, folder).replace(os.sep, "/")
    kind = "right" if answer.is_right else "wrong"
    rows = "".join(
        f"<div class='row{' true' * (name == answer.truth)}'><div class=bar "
        f"style='width:{100 * p:.1f}%'></div><span>{in_html(name)}</span>"
        f"<span>{100 * p:.1f}%</span></div>"
        for name, p in zip(answer.names, answer.probabilities, strict=True)
    )
    verdict = "right" if answer.is_right else f"wrong: it is {answer.truth}"
    return (
        f"<article class=is-{kind}><a href='{quote(relative)}'><img loading=lazy "
        f"alt='{in_html(answer.truth)}' src='{thumbnail(answer.path)}'></a>"
        f"<h2>{in_html(relative)}</h2>{rows}<div class={kind}>{in_html(verdict)}</div></article>"
    )
