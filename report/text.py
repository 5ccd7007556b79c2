"""Names and sentences -> what is safe to put into a console, Markdown, LaTeX, HTML and CSV.

Names of data sets, methods and folders are the user's: any of them may hold what a format reads as
markup, or a terminal as a command.
"""

import html
import re
import sys
import unicodedata
from typing import TextIO

__all__ = ["in_csv", "in_html", "in_latex", "in_markdown", "in_plot", "listed", "plain", "say"]

_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "±": r"$\pm$",
    # Behind the \\ of the row before, LaTeX takes these for an option of it.
    "[": "{[}",
    "]": "{]}",
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}
# Letters beyond ASCII that pdflatex has in every font encoding: these, and those with one accent.
_LATEX_LETTERS = set("ßæøœłıÆØŒŁ")
_LATEX_ACCENTS = set("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327")
_MARKDOWN = {"&": "&amp;", "<": "&lt;", ">": "&gt;"} | {c: f"\\{c}" for c in "\\|`*[]$~#"}
# Between letters or digits an underscore is one, as in fgvc_aircraft.
_MARKDOWN_RULE = re.compile(r"(?<![^\W_])_|_(?![^\W_])")
_FORMULA = tuple("=+-@\t\r")


def plain(text: str) -> str:
    """One line that a terminal only shows: what cannot be printed is spelt, such as `\\x1b`."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def in_markdown(text: str) -> str:
    """Text of a table's cell, a heading or a list."""
    return _MARKDOWN_RULE.sub(r"\_", "".join(_MARKDOWN.get(c, c) for c in plain(text)))


def in_latex(text: str) -> str:
    """Text of a table's cell or a caption; a letter that pdflatex lacks is spelt: U+9CE5."""
    return "".join(_LATEX.get(c, c if _is_in_latex(c) else f"U+{ord(c):04X}") for c in plain(text))


def _is_in_latex(character: str) -> bool:
    if character.isascii() or character in _LATEX_LETTERS:
        return True
    apart = unicodedata.normalize("NFD", character)  # the letter, and then its accents
    is_accented = len(apart) == 2 and apart[0].isascii() and apart[1] in _LATEX_ACCENTS
    return character <= "\u017f" and is_accented


def in_html(text: str) -> str:
    """Text of an element or a quoted attribute."""
    return html.escape(plain(text))


def in_csv(text: str) -> str:
    """A cell that no spreadsheet computes: an apostrophe goes before what would be a formula."""
    return f"'{plain(text)}" if text.startswith(_FORMULA) else plain(text)


def in_plot(text: str) -> str:
    """A label for matplotlib, which reads what is between dollars as formulas."""
    # A label that begins with an underscore is left out of the legend.
    shown = plain(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def listed(values: object) -> str:
    """`1, 2, 3`."""
    return ", ".join(map(str, values))  # type: ignore[call-overload]


def say(text: str, file: TextIO | None = None) -> None:
    """Print what the console's encoding can show, and the rest as escapes."""
    file = file or sys.stdout
    encoding = file.encoding or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=file)
