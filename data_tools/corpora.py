"""Real English text that is on every machine: Python's documentation and licences of installed packages.

Split into train and test by document; knows nothing of pages or fonts.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
import sysconfig
import warnings
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

Split = Literal["train", "test"]
SPLITS = ("train", "test")
SOURCES = ("pydoc", "docstrings", "licences")
NOT_LIBRARY = {
    "test",
    "tests",
    "idle_test",
    "idlelib",
    "lib2to3",
    "site-packages",
    "dist-packages",
    "encodings",
}
TEST_PERCENT = 10
MARKER = r"\s*(?:[*\-]|\(?\d{1,2}[.)]) +"  # of a list item
LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE")


class CorpusError(ValueError):
    """A corpus that does not exist or holds no text."""


@dataclass(frozen=True)
class Document:
    """One text: its headings, paragraphs and list items, each on one line, each kind in order of reading."""

    name: str
    title: str
    headings: tuple[str, ...]
    paragraphs: tuple[str, ...]
    items: tuple[str, ...] = ()


def split_of(name: str) -> Split:
    """The side on which a document of this name stands, on every machine and for ever."""
    digest = hashlib.sha256(name.encode()).digest()
    return "test" if int.from_bytes(digest[:4], "big") % 100 < TEST_PERCENT else "train"


@functools.cache
def documents(split: Split, sources: tuple[str, ...] = SOURCES) -> tuple[Document, ...]:
    """All documents of one side, sorted by name; no paragraph of the train side is in the test side again."""
    if split not in SPLITS:
        raise CorpusError(f"corpora: split must be one of {', '.join(SPLITS)}; got {split!r}")
    for source in sources:
        if source not in SOURCES:
            raise CorpusError(f"corpora: source must be one of {', '.join(SOURCES)}; got {source!r}")
    known: set[str] = set()
    chosen = _without_repeats(_side("train", sources), known)
    if split == "test":
        # licences quote each other, so a paragraph of another document can be known from the train side
        chosen = _without_repeats(_side("test", sources), known)
    if not chosen:
        raise CorpusError(f"corpora: the {split} side of {', '.join(sources)} is empty; add a source")
    return tuple(chosen)


@functools.cache
def words(split: Split, sources: tuple[str, ...] = SOURCES) -> tuple[tuple[str, ...], ...]:
    """The words of every document's paragraphs, in order of reading."""
    found = (tuple(" ".join(document.paragraphs).split()) for document in documents(split, sources))
    return tuple(each for each in found if each)


def sentences(paragraph: str) -> list[str]:
    """The paragraph cut after full stops, question and exclamation marks that a capital letter follows."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z(\"])", paragraph)


def _side(split: Split, sources: tuple[str, ...]) -> list[Document]:
    readers = {"pydoc": _pydoc_topics, "docstrings": _docstrings, "licences": _licences}
    found = [document for source in sources for document in readers[source]()]
    side = [document for document in found if split_of(document.name) == split]
    return sorted(side, key=lambda document: document.name)


def _texts(document: Document) -> tuple[str, ...]:
    return document.paragraphs + document.items


def _folded(text: str) -> str:
    return re.sub(r"\W+", " ", text).lower().strip()


def _without_repeats(found: list[Document], known: set[str]) -> list[Document]:
    """The documents without texts that are known or came before; those with no paragraph left are dropped."""
    kept = []
    for document in found:
        new: dict[str, str] = {}
        for text in _texts(document):
            key = _folded(text)
            if key not in known:
                known.add(key)
                new[text] = key
        paragraphs = tuple(text for text in document.paragraphs if text in new)
        items = tuple(text for text in document.items if text in new)
        if paragraphs:
            kept.append(replace(document, paragraphs=paragraphs, items=items))
    return kept


@functools.cache
def _pydoc_topics() -> list[Document]:
    from pydoc_data.topics import topics

    return [_parsed(f"pydoc:{name}", text) for name, text in topics.items()]


@functools.cache
def _docstrings() -> tuple[Document, ...]:
    """One document for each module of the standard library."""
    folder = Path(sysconfig.get_path("stdlib"))
    found = []
    for path in sorted(folder.rglob("*.py")):
        module = path.relative_to(folder)
        source = path.read_text(encoding="utf-8", errors="replace")
        if '"""' not in source or set(module.parts) & NOT_LIBRARY:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old modules hold invalid escapes
            nodes = ast.walk(ast.parse(source))
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
        texts = [ast.get_docstring(node) for node in nodes if isinstance(node, kinds)]
        name = ".".join(module.with_suffix("").parts)
        parsed = _parsed(f"docstrings:{name}", "\n\n".join(text for text in texts if text))
        found.append(replace(parsed, title=f"The {name} module", headings=()))
    return tuple(found)


@functools.cache
def _licences() -> list[Document]:
    found: dict[tuple[str, tuple[str, ...]], Document] = {}
    for distribution in metadata.distributions():
        for file in distribution.files or []:
            if not file.name.upper().startswith(LICENCE_NAMES) or file.suffix in (".py", ".pyc"):
                continue
            path = Path(str(file.locate()))
            if not path.is_file():
                continue
            document = _parsed("", path.read_text(encoding="utf-8", errors="replace"))
            longest = _folded(max(document.paragraphs, key=len, default=""))
            # named by its longest paragraph, so that all copies of a licence stand on the same side
            name = f"licence:{hashlib.sha256(longest.encode()).hexdigest()[:16]}"
            if longest:
                found.setdefault((name, document.paragraphs), replace(document, name=name, headings=()))
    return list(found.values())


def _parsed(name: str, text: str) -> Document:
    """Blocks between empty lines; code, grammar and copyright lines are left out."""
    headings: list[str] = []
    paragraphs: list[str] = []
    items: list[str] = []
    for block in re.split(r"\n[ \t]*\n", text.replace("\t", "    ")):
        lines = [line for line in block.split("\n") if line.strip()]
        if len(lines) == 2 and re.fullmatch(r"([*=\-~^])\1{2,}", lines[1].strip()):
            headings.append(_plain(lines[0]))
            continue
        for piece in re.split(rf"\n(?={MARKER})", block):
            marker = re.match(MARKER, piece)
            one_line = _plain(piece[marker.end() :] if marker else piece)
            if _is_prose(one_line):
                (items if marker else paragraphs).append(one_line)
    title = headings[0] if headings else _title(text)
    return Document(name, title, tuple(headings[1:]), tuple(paragraphs), tuple(items))


def _title(text: str) -> str:
    first = next((_plain(line) for line in text.split("\n") if line.strip()), "")
    fit = 3 <= len(first) <= 60 and "opyright" not in first and re.fullmatch(r"[\w .,:;()'/-]*\w\)?", first)
    return first if fit else ""


def _plain(block: str) -> str:
    """One line without reStructuredText's marks for emphasis and code."""
    text = " ".join(block.split())
    text = re.sub(r"(?<!\w)(\*\*|\*|``|`)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2", text)
    return re.sub(r"\s+", " ", text).strip()


def _is_prose(text: str) -> bool:
    if len(text.split()) < 8 or re.search(r">>>|::=|\||={2}|-{3}|_{3}|\ufffd|opyright \(|https?:", text):
        return False
    letters = sum(char.isalpha() or char == " " for char in text)
    return letters / len(text) > 0.9 and text[-1] in ".;:,!?)" and text.isprintable()
