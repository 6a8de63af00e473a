r"""What text, formulas and cells are before OmniDocBench compares them, by the rule of a version.

Version 1.5 and before: metrics/omnidocbench_text, metrics/formulas, metrics/teds. Version 1.6 reads more
ways of writing as the same: circled digits, column specifications, phantoms, tick marks, Greek in cells.
"""

from __future__ import annotations

import functools
import re
import unicodedata

from rapidfuzz.distance import Levenshtein

from got_train.errors import RequirementError
from got_train.evaluation.metrics import formulas, omnidocbench_text, teds

from .rules import Rule

_CIRCLED = {
    **{chr(0x2460 + number): str(number + 1) for number in range(20)},
    **{chr(0x24D0 + number): chr(ord("a") + number) for number in range(26)},
    **{chr(0x24B6 + number): chr(ord("A") + number) for number in range(26)},
}
_TEXT_CIRCLED = re.compile(r"\\textcircled\s*\{\s*([^{}]+?)\s*\}")
_INLINE = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
_ESCAPED = re.compile(r"\\([\\_&%^])")
_MARKS = ("\\t", "\\n", "\t", "\n", "/t", "/n")
_NOT_WORD = re.compile(r"[^\w\u4e00-\u9fff]")
_DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))
_LONGEST_INLINE = 128  # characters; longer formulas inside a line stay as they are
_LONGEST_LATEX = 8000
# a formula inside a line that has one of these stays as it is
_STRUCTURED = ("\\begin{", "\\end{", "\\array", "\\matrix", "\\tabular", "\\cases", "\\align", "\\\\", "&")

# --- formulas of 1.6
_DISPLAYED = re.compile(r"\\\[(.+?)(?<!\\)\\\]|\\\((.+?)(?<!\\)\\\)")
_SPACING = re.compile(r"\\[!,;:]")
_DROPPED_COMMANDS = (r"\\hspace\{.*?\}", r"\\begin\{.*?\}", r"\\end\{.*?\}", r"\\arraycolsep.*?\}")
_COLUMNS = re.compile(r"\{[lcr| ]+\}")
_SIMPLE_GROUP = re.compile(r"\{([A-Za-z0-9.+\-]+)\}")
_GROUP = re.compile(r"\{([^{}]{1,160})\}")
_GROUP_MARKS = ("=", "+", "-", "\\\\", "^", "_", "[", "]", "(", ")")

# --- cells of 1.6
_CELL_COMMANDS = {
    "\\checkmark": "\u221a",
    "\\checked": "\u221a",
    "\\surd": "\u221a",
    "\\times": "\u00d7",
    "\\xmark": "\u00d7",
    "\\crossmark": "\u00d7",
    "\\pm": "\u00b1",
    "\\mp": "\u2213",
    "\\alpha": "\u03b1",
    "\\beta": "\u03b2",
    "\\gamma": "\u03b3",
    "\\gama": "\u03b3",
    "\\mu": "\u03bc",
    "\\lambda": "\u03bb",
    "\\theta": "\u03b8",
    "\\eta": "\u03b7",
    "\\pi": "\u03c0",
    "\\rho": "\u03c1",
    "\\sigma": "\u03c3",
    "\\omega": "\u03c9",
    "\\delta": "\u03b4",
    "\\Delta": "\u0394",
    "\\epsilon": "\u03b5",
    "\\varepsilon": "\u03b5",
    "\\phi": "\u03c6",
    "\\varphi": "\u03c6",
    "\\tau": "\u03c4",
    "\\partial": "\u2202",
    "\\varnothing": "\u2205",
    "\\emptyset": "\u2205",
    "\\sim": "\uff5e",
}
_CELL_CHARACTERS = {
    **dict.fromkeys("\u2713\u2714\u2611\u2705\U0001f5f8", "\u221a"),
    **dict.fromkeys("\u2717\u2718\u2715\u2716\u2612\u274c\u2573\u2a2f", "\u00d7"),
    "\u00d8": "\u2205",
    "\u223c": "\uff5e",
    "\u301c": "\uff5e",
}
_CELL_ESCAPES = {"\\%": "%", "\\#": "#", "\\&": "&", "\\_": "_"}
_LONE_DASHES = dict.fromkeys("-\u2013\u2212\uff0d\u2014", "\u2014")
_CELL_DELIMITERS = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"), ("$", "$"))

# --- whether LaTeX is worth turning into Unicode, 1.6
_ENVIRONMENT = re.compile(r"\\(begin|end)\{([^{}]+)\}")
_COMMAND = re.compile(r"\\[A-Za-z]+")
_WORD = re.compile(r"[A-Za-z]{3,}")
_SIGNAL = re.compile(r"\\[A-Za-z]+|[_^{}$]|\\[\[\]()]]|&|%|#")


def edit_distance(gt: str, pred: str) -> float:
    """Edits over the longer side's length; 0 for two empty texts."""
    return Levenshtein.normalized_distance(gt, pred)


@functools.lru_cache(maxsize=1 << 14)
def text(source: str, rule: Rule) -> str:
    """Letters, digits and underscores of a text, formulas inside it as Unicode."""
    if not rule.wide_normalization:
        return omnidocbench_text.normalised(source)
    return clean_text(inline_to_unicode(source, rule))


def clean_text(source: str) -> str:
    """1.6: a text without anything but letters, digits and underscores; circled digits are digits."""
    source = plain_circled(source)
    for mark in _MARKS:
        source = source.replace(mark, "")
    return _NOT_WORD.sub("", source)


def inline_to_unicode(source: str, rule: Rule) -> str:
    """A text whose formulas inside lines are Unicode, where they have a command, an index or a power."""
    if not rule.wide_normalization:
        return omnidocbench_text.unicode_formulas(source)
    return _INLINE.sub(_inline, plain_circled(source))


def _inline(match: re.Match) -> str:
    written = match[1] if match[1] is not None else match[2]
    formula = _ESCAPED.sub("", written)
    if not any(character in formula for character in "\\^_"):
        return match[0]
    formula += " " * formula.endswith("\\")
    if _stays(formula):
        return match[0]
    return latex_to_text(formula).strip()


def _stays(formula: str) -> bool:
    formula = formula.strip()
    return bool(formula) and (
        len(formula) > _LONGEST_INLINE
        or any(token in formula for token in _STRUCTURED)
        or formula.count("{") != formula.count("}")
    )


def plain_circled(source: str) -> str:
    source = _TEXT_CIRCLED.sub(lambda match: match[1].strip(), source)
    return "".join(_CIRCLED.get(character, character) for character in source)


@functools.lru_cache(maxsize=1 << 14)
def formula(source: str, rule: Rule) -> str:
    """A formula without fonts, spaces, environments and sizes of brackets, in small letters."""
    return _wide_formula(source) if rule.wide_normalization else formulas.normalised(source)


def _wide_formula(source: str) -> str:
    source = strip_tags(strip_delimiters(plain_circled(source)))
    match = _DISPLAYED.search(source)
    if match:
        source = (match[1] or match[2] or "").strip()
    source = _without_phantom(source)
    source = re.sub(r"(?<!\\)&", "", _SPACING.sub("", source))
    for written, plain in (("\\mid", "|"), ("\\vert", "|"), ("\\{", ""), ("\\}", ""), ("~", "")):
        source = source.replace(written, plain)
    for pattern in _DROPPED_COMMANDS:
        source = re.sub(pattern, "", source)
    source = _COLUMNS.sub("", source).strip(".")
    for dropped in formulas.DROPPED:
        source = source.replace(dropped, "")
    before = None
    while source != before:
        before = source
        source = _SIMPLE_GROUP.sub(r"\1", source).replace("{}", "")
        source = re.sub(r"}}+", "}", re.sub(r"\{\{+", "{", source))
        source = _GROUP.sub(_opened, source)
    return re.sub(r"\s+", "", source.lower())


def _opened(match: re.Match) -> str:
    return match[1] if any(mark in match[1] for mark in _GROUP_MARKS) else match[0]


def strip_delimiters(source: str) -> str:
    r"""Without the $, $$, \( \) and \[ \] around it, however many pairs."""
    source = source.strip().strip("\n")
    while True:
        for left, right in _DELIMITERS:
            if source.startswith(left) and source.endswith(right) and len(source) >= len(left) + len(right):
                source = source[len(left) : len(source) - len(right)].strip()
                break
        else:
            return source
        if not source:
            return source


def strip_tags(source: str) -> str:
    r"""Without \tag{...}, \tag*{...}, \notag and \nonumber."""
    start = source.find("\\tag")
    while start >= 0:
        end = start + len("\\tag")
        following = re.compile(r"\s*(?:\*\s*)?").match(source, end)
        opened = following.end() if following else end
        if source[end : end + 1].isalpha() or source[opened : opened + 1] != "{":
            start = source.find("\\tag", end)
            continue
        closed = group_end(source, opened)
        source = source[:start] + source[closed if closed else end :]
        start = source.find("\\tag", start)
    return source.replace("\\notag", "").replace("\\nonumber", "")


def _without_phantom(source: str) -> str:
    start = source.find("\\phantom{")
    while start >= 0:
        opened = start + len("\\phantom")
        closed = group_end(source, opened)
        source = source[:start] + source[closed if closed else opened :]
        start = source.find("\\phantom{") if closed else -1
    return source


def group_end(source: str, start: int) -> int:
    """The place after the brace that closes the one at `start`, escaped ones counting; 0 if none does."""
    depth = 0
    for index in range(start, len(source)):
        depth += (source[index] == "{") - (source[index] == "}")
        if depth == 0:
            return index + 1
    return 0


def html_table(source: str, rule: Rule) -> str:
    """A table in HTML as TEDS is to see it; nothing if the text holds none."""
    return teds.normalised(source, cell if rule.wide_normalization else None)


def cell(source: str) -> str:
    """1.6: the text of a cell, or of a part of it between tags."""
    source = unicodedata.normalize("NFKC", source).replace("\xa0", " ").replace("\u200b", "")
    source = _cell_symbols(_cell_without_delimiters(_cell_symbols(source)))
    source = _LONE_DASHES.get(source.strip(), source)
    return re.sub(r"\s+", " ", source).strip()


def _cell_symbols(source: str) -> str:
    for replacements in (_CELL_COMMANDS, _CELL_CHARACTERS, _CELL_ESCAPES):
        for written, plain in replacements.items():
            source = source.replace(written, plain)
    return source


def _cell_without_delimiters(source: str) -> str:
    source = source.strip()
    opened = True
    while source and opened:
        opened = False
        for left, right in _CELL_DELIMITERS:
            if source.startswith(left) and source.endswith(right) and len(source) >= len(left) + len(right):
                inner = source[len(left) : len(source) - len(right)].strip()
                if inner and len(inner) <= _LONGEST_INLINE and not any(mark in inner for mark in "<>$"):
                    source, opened = inner, True
                    break
    return source


def latex_to_text(source: str) -> str:
    """1.6: Unicode for LaTeX; as it is where it is broken, very long, or hardly LaTeX at all."""
    stripped = source.strip()
    if not any(mark in stripped for mark in "\\{}$"):
        return stripped
    if _is_prose(stripped) or _is_weak(stripped) or is_broken_latex(stripped):
        return stripped
    return pylatexenc_text(stripped)


def pylatexenc_text(source: str) -> str:
    """Unicode for LaTeX, whatever it is; what pylatexenc fails on stays."""
    try:
        return _pylatexenc(source)
    except RequirementError:
        raise
    except Exception:  # it fails in many ways on broken formulas; as published, they stay
        return source


def _pylatexenc(source: str) -> str:
    try:
        from pylatexenc.latex2text import LatexNodes2Text
    except ImportError:
        raise RequirementError(
            "pylatexenc is not installed, which OmniDocBench's rule for formulas inside text needs; "
            'use `pip install -e ".[formulas]"` in the clone'
        ) from None
    return LatexNodes2Text().latex_to_text(source)


def is_broken_latex(source: str, kind: str = "formula") -> bool:
    """Whether braces, environments or, in a formula, delimiters do not close."""
    stripped = source.strip()
    if not stripped:
        return False
    if len(stripped) > _LONGEST_LATEX or not _braces_close(stripped) or not _environments_close(stripped):
        return True
    if kind != "formula":
        return False
    counts = [len(re.findall(pattern, stripped)) for pattern in (r"\\left\b", r"\\right\b")]
    counts += [stripped.count(token) for token in ("\\(", "\\)", "\\[", "\\]")]
    pairs = zip(counts[::2], counts[1::2], strict=True)
    dollars = len(re.findall(r"(?<!\\)\$", stripped))
    return any(opened != closed for opened, closed in pairs) or dollars % 2 != 0


def _braces_close(source: str) -> bool:
    depth, index = 0, 0
    while index < len(source):
        if source[index] == "\\" and source[index + 1 : index + 2] in tuple("{}[]()"):
            index += 2
            continue
        depth += (source[index] == "{") - (source[index] == "}")
        if depth < 0:
            return False
        index += 1
    return depth == 0


def _environments_close(source: str) -> bool:
    names: list[str] = []
    for match in _ENVIRONMENT.finditer(source):
        if match[1] == "begin":
            names.append(match[2])
        elif not names or names.pop() != match[2]:
            return False
    return not names


def _is_prose(source: str) -> bool:
    """Words with next to nothing of LaTeX among them."""
    if len(source) < 32 or len(_SIGNAL.findall(source)) > 2 or any(mark in source for mark in "{}$^_"):
        return False
    commands = ("frac", "sqrt", "left", "right", "begin", "end", "sum", "int", "alpha", "beta")
    if any(f"\\{name}" in source for name in commands):
        return False
    return len(_WORD.findall(source)) >= 6 and source.count(" ") >= 5


def _is_weak(source: str) -> bool:
    """A backslash or two among words, which is not LaTeX."""
    if source in ("\\", "\\\\"):
        return True
    commands, words = len(_COMMAND.findall(source)), len(_WORD.findall(source))
    signs = sum(character in "{}$^_=&%#" for character in source)
    if source.endswith("\\") and not source.endswith("\\\\") and not commands:
        return True
    if "\\" in source and not commands and not signs:
        return True
    return (words >= 2 and not commands and signs <= 1) or (words >= 4 and commands <= 1 and signs <= 2)
