"""Mathpix markdown as HTML by mathpix-markdown-it in node, checked for words that it loses or adds.

Knows how a text has to be written so that nothing in it is taken for what it is not; draws nothing itself.
"""

from __future__ import annotations

import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lxml.html import HtmlElement, HTMLParser, fromstring

from got_train.errors import RenderingError
from got_train.formats import node_packages
from got_train.formats.subprocesses import run

from .html import inline_source
from .sanitize import clean

SECONDS = 60.0  # for one process; it starts in a second and sets ten pages in the next
MEMORY = 1024  # megabytes of the script's own
TOGETHER = 100_000  # characters that one process sets
LONGEST = 200_000  # characters of one text
_SCRIPT = Path(__file__).with_name("mathpix.mjs")
# where a text is not Markdown: what must not be touched
_VERBATIM = re.compile(
    r"^```.*?(?:^```|\Z)|`[^`\n]+`|\\\(.*?\\\)|\\\[.*?\\\]|<smiles>[^<]*</smiles>"
    r"|\\begin\{(?P<name>tabular|equation|align|gather|multline|eqnarray)\*?\}.*?\\end\{(?P=name)\*?\}",
    re.DOTALL | re.MULTILINE,
)
DOLLARS = re.compile(
    r"(?<![\\$])\$\$(?P<block>(?:(?!\n\s*\n)[^$])+)\$\$(?!\$)"
    r"|(?<![\\$])\$(?P<inline>(?! )(?:[^$\n\\]|\\.)*(?<![ \\]))\$(?![\d$])"
)
_FORMULA = re.compile(r"[A-Za-z]'*|\d+(?:[.,]\d+)?%?|.*[\\^_=<>{}].*", re.DOTALL)
# between letters no sign of emphasis, but H~2~O and x^2^ are meant
_SIGN = re.compile(r"(?P<meant>([~^])[^\W_]{1,4}\2)|(?<=[^\W_])(?P<sign>[*_~^=]+)(?=[^\W_])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_SECTION = re.compile(r"\\((?:sub)*section)\{")
_COUNTED = re.compile(r"\s*(?:Table|Figure) \d+: ")  # what it writes before a caption
_NUMBERED = re.compile(r"(?P<edge>\\(?:begin|end)\{(?:align|gather|multline|equation|eqnarray))\}")


def unavailable() -> str | None:
    """Why it cannot be asked; None if it can."""
    if shutil.which("node") is None:
        return "node is not installed"
    if node_packages.packages("mathpix-markdown-it") is None:
        return f"mathpix-markdown-it is not installed; `{node_packages.COMMAND}`"
    return None


def pages(texts: Sequence[str]) -> list[str | RenderingError]:
    """The HTML of each text, or why it has none; a process sets many, and the others if one ends it."""
    if reason := unavailable():
        raise RenderingError(reason)
    result: list[str | RenderingError] = []
    for batch in _batches(texts):
        try:
            answers = _set(batch)
        except RenderingError as error:
            answers = [_alone(text) for text in batch] if len(batch) > 1 else [error]
        result += [_page(text, answer) for text, answer in zip(batch, answers, strict=True)]
    return result


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for text in texts:
        if batch and sum(map(len, batch)) + len(text) > TOGETHER:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch


def _alone(text: str) -> dict[str, str] | RenderingError:
    try:
        return _set([text])[0]
    except RenderingError as error:
        return error


def _set(texts: list[str]) -> list[dict[str, str]]:
    if sum(map(len, texts)) > LONGEST:
        raise RenderingError(f"{sum(map(len, texts)):,} characters; expected at most {LONGEST:,}")
    folder = node_packages.packages("mathpix-markdown-it")
    command = ["node", f"--max-old-space-size={MEMORY}", str(_SCRIPT), str(folder)]
    question = json.dumps([written(text) for text in texts]).encode()
    ended = run(command, seconds=SECONDS, given=question)
    if ended.code is None:
        raise RenderingError(f"node takes longer than {SECONDS:g} seconds")
    if ended.code:
        raise RenderingError(f"node ended with {ended.code}: {ended.errors.strip()[:200]}")
    return json.loads(ended.out)


def written(text: str) -> str:
    r"""The text with formulas in \( \) only; signs that would vanish or count something are escaped."""
    parts, end = [], 0
    for match in _VERBATIM.finditer(text):
        parts += [_plain(text[end : match.start()]), _NUMBERED.sub(r"\g<edge>*}", match[0])]
        end = match.end()
    return "".join([*parts, _plain(text[end:])])


def formula_in_dollars(match: re.Match) -> str | None:
    """What stands between dollars if it is a formula; prices are none."""
    inner = match["block"] or match["inline"] or ""
    return inner if match["block"] or _FORMULA.fullmatch(inner) else None


def _plain(text: str) -> str:
    parts, end = [], 0
    for match in DOLLARS.finditer(text):
        inner = formula_in_dollars(match)
        if inner is not None:
            around = ("\\[", "\\]") if match["block"] else ("\\(", "\\)")
            parts += [escaped(text[end : match.start()]), around[0], inner, around[1]]
            end = match.end()
    return "".join([*parts, escaped(text[end:])])


def escaped(text: str) -> str:
    """Plain text in which no sign is taken for a mark of Markdown that it is not."""
    text = re.sub(r"(?<!\\)\$", r"\\$", text)
    text = _SIGN.sub(lambda match: match["meant"] or "".join(f"\\{sign}" for sign in match["sign"]), text)
    return _SECTION.sub(r"\\\1*{", _ENTITY.sub(r"\\&", text))


def _page(text: str, answer: dict[str, str] | RenderingError) -> str | RenderingError:
    if isinstance(answer, RenderingError):
        return answer
    if "html" not in answer:
        return RenderingError(f"mathpix-markdown-it: {answer.get('fault')}")
    page = clean(answer["html"], _Special(text))
    expected, shown = Counter(_words_of_source(text)), Counter(_words_of_page(page))
    lost, added = expected - shown, shown - expected
    if lost or added:
        losses = [("lose", lost), ("add", added)]
        differences = " and ".join(f"{verb} {', '.join([*words][:3])!r}" for verb, words in losses if words)
        return RenderingError(f"mathpix-markdown-it would {differences}")
    return page


class _Special:
    """What stands for elements that show a fault instead of their source."""

    def __init__(self, text: str) -> None:
        self._molecules = _molecules(text)
        self._formula = ""

    def __call__(self, element: HtmlElement) -> str | None:
        kind = element.get("class") or ""
        if element.tag == "latex":
            self._formula = element.text or ""
            return ""
        if element.tag == "mjx-container" and element.xpath('.//*[@data-mml-node="merror"]'):
            words = element.text_content().strip()
            return inline_source(self._formula, f"this formula cannot be set: {words}")
        if kind in ("smiles-inline", "smiles"):
            smiles = next(self._molecules, "")
            if element.xpath('.//*[contains(@class, "smiles-error")]'):
                return inline_source(
                    smiles, f"this molecule cannot be drawn: {element.text_content().strip()}"
                )
            return None
        if "caption" in kind and element.text:
            element.text = _COUNTED.sub("", element.text, count=1)
        return "" if kind in ("footnote-backref", "li_level", "section-number") else None


def _molecules(text: str) -> Iterator[str]:
    """What mathpix-markdown-it takes for molecules, in their order."""
    end = 0
    while (start := text.find("<smiles>", end)) >= 0 and (end := text.find("</smiles>", start)) >= 0:
        yield text[start + len("<smiles>") : end]


_INVISIBLE = re.compile(
    r"\\(?:label|pagebreak|vspace\*?|hspace\*?|cline|cmidrule)(?:\([^)]*\))?(?:\s*\{[^{}]*\})?"
    r"|\\begin\s*\{tabular\}\s*(?:\[[^\]]*\])?\s*\{(?:[^{}]|\{[^{}]*\})*\}"
    r"|\\multicolumn\s*\{[^{}]*\}\s*\{(?:[^{}]|\{[^{}]*\})*\}"
    r"|\\multirow\s*(?:\[[^\]]*\])?\s*\{[^{}]*\}\s*(?:\[[^\]]*\])?\s*\{[^{}]*\}"
    r"|\\(?:begin|end)\s*\{[^{}]*\}(?:\[[^\]]*\])?|^```\w*|^\s*\d+[.)](?=\s)|\\[A-Za-z]+\*?",
    re.MULTILINE,
)
_DRAWN = re.compile(
    r"\\\(.*?\\\)|\\\[.*?\\\]|<smiles>[^<]*</smiles>"
    r"|\\begin\{(?P<name>equation|align|gather|multline|eqnarray)\*?\}.*?\\end\{(?P=name)\*?\}",
    re.DOTALL,
)


def _words_of_source(text: str) -> Iterator[str]:
    plain = DOLLARS.sub(lambda match: " " if formula_in_dollars(match) is not None else match[0], text)
    plain = _INVISIBLE.sub(" ", _DRAWN.sub(" ", plain))
    yield from _words(plain)


def _words_of_page(page: str) -> Iterator[str]:
    root = fromstring(f"<div>{page}</div>", parser=HTMLParser(encoding="utf-8"))
    for element in root.xpath('.//mjx-container|.//svg|.//code[@class="source"]'):
        element.drop_tree()
    for element in root.iter("br", "td", "th", "p", "div", "li"):
        element.tail = " " + (element.tail or "")
    yield from _words(root.text_content())


def _words(text: str) -> list[str]:
    """Without the signs that raise, lower or mark letters."""
    return re.findall(r"[^\W_]+", re.sub("[*_~^=]+", "", text))
