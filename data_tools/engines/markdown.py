r"""Whole pages of Mathpix markdown: title, author, sections, text with formulas, displays, tables, lists.

The source is the target; mathpix-markdown-it and chromium set it, and what the page then says must be what
the source says, letter by letter.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_tools import arguments, produce
from data_tools.drawing import degrade, renderers
from data_tools.drawing.fonts import missing
from data_tools.text import corpora, phrases
from data_tools.text.formula_grammar import Grammar
from got_train.errors import DrawingError

from . import scene, tables
from .lines import DEFAULT_FONTS

if TYPE_CHECKING:
    import numpy
    from PIL import Image

SCRIPT, PACKAGES = "markdown.mjs", ("mathpix-markdown-it", "puppeteer-core")
# what Markdown, TeX or an emoji table would take for more than a letter
MARKUP = re.compile(r"[*_`#<>|~^$\\\[\]{}&@=+]|--|\.\.\.|:\w+:|\((?:c|r|tm|p)\)", re.I)
LISTLIKE = re.compile(r"\s*(?:\d+[.)]|[-+*])\s")
EM_PIXELS = {"en": 11, "zh": 14}  # of the square view; smaller letters are not read
INDEX = 0.7  # of the font size: the smallest text of a page
VIEW = 1024
SIDES = 1.7  # of a page: how many times higher than wide at most
LONGEST = 700  # characters of a paragraph
CLOSED = (".ttf", ".otf")  # a browser takes no collections of fonts


@dataclass(frozen=True)
class Block:
    """A piece of a page: its source, and its letters in order without those in formulas."""

    source: str
    text: str
    formulas: int = 0
    cells: int = 0
    list_item: bool = False


@dataclass(frozen=True)
class MarkdownEngine:
    """Pages as records of the task format."""

    languages: tuple[scene.Language, ...]
    width: tuple[int, int]
    sizes: tuple[int, int]  # of the font, in pixels
    chromium: str
    degrade: float = 0.0  # share of the pictures
    suffix: str = "jpg"
    name: str = "markdown"
    attempts: int = 100

    def rows(self, index: int, rng: numpy.random.Generator) -> list[produce.Row]:
        language = self.languages[int(rng.integers(len(self.languages)))]
        font = language.fonts[int(rng.integers(len(language.fonts)))]
        look = self._look(language.name, rng)
        blocks = page_blocks(language, look["room"], rng)
        written = "".join(block.text for block in blocks) + "0123456789."
        phrases.refuse_shaped(written)
        if missing(font, "".join(written.split())):
            raise produce.Rejected(f"{font.stem} lacks a character")
        image = self._drawn(blocks, font, look)
        if look["font_size"] * VIEW / max(image.size) < EM_PIXELS[language.name]:
            raise produce.Rejected("letters too small")
        image, damage = degrade.apply(image, rng, self.degrade, INDEX * look["font_size"])
        picture = produce.Picture(f"{index:08d}.{self.suffix}", produce.encode(image, self.suffix))
        meta = {"language": language.name, "font": font.stem, **look}
        meta |= {"degrade": damage} if damage else {}
        return [produce.Row(f"{self.name}-{index:08d}", (picture,), "format", joined(blocks), meta=meta)]

    def _look(self, language: str, rng: numpy.random.Generator) -> dict[str, Any]:
        width, size = (int(rng.integers(low, high + 1)) for low, high in (self.width, self.sizes))
        random = rng.random(7).tolist()
        margin = int(width * (0.04 + 0.07 * random[0]))
        leading = round(1.25 + 0.4 * random[1], 2)
        columns = 2 if random[2] < 0.25 and width - 2 * margin > 44 * size else 1
        area = (width - 2 * margin) * width * (0.5 + 0.75 * random[3])
        letter = size if language == "zh" else 0.5 * size
        tint = rng.integers(0, 14, 3) if random[4] < 0.5 else (0, 0, 0)
        return {
            "width": width, "font_size": size, "margin": margin, "leading": leading, "columns": columns,
            "room": int(area / (letter * leading * size)),  # characters, about
            "paper": [int(255 - value) for value in tint],
            "ink": int(60 * random[5]),
            "justify": random[6] < 0.5,
        }  # fmt: skip

    def _drawn(self, blocks: list[Block], font: Path, look: dict[str, Any]) -> Image.Image:
        """The page's picture, if it says what its blocks say and hides nothing."""
        from PIL import Image

        question = {
            "chromium": self.chromium, "markdown": joined(blocks), "font": str(font),
            "css": style_sheet(look), "width": look["width"],
        }  # fmt: skip
        answer = renderers.node(SCRIPT, *PACKAGES).ask(question)
        if "failure" in answer:
            raise DrawingError(f"{SCRIPT}: {answer['failure']}; expected a chromium that starts")
        if "error" in answer:
            raise produce.Rejected(answer["error"])
        if answer["clipped"]:
            raise produce.Rejected("something wider than its column")
        if answer["height"] > SIDES * look["width"]:
            raise produce.Rejected("page too long")
        check(blocks, answer)
        return Image.open(io.BytesIO(base64.b64decode(answer["png"]))).convert("RGB")


def check(blocks: list[Block], answer: dict[str, Any]) -> None:
    """Rejects a page that does not say what its blocks say."""
    if letters(answer["text"]) != letters("".join(block.text for block in blocks)):
        raise produce.Rejected("the page says something else than its source")
    if answer["formulas"] != sum(block.formulas for block in blocks):
        raise produce.Rejected("the page shows more or fewer formulas than its source")
    if answer["cells"] < sum(block.cells for block in blocks):
        raise produce.Rejected("the page lacks cells of a table")


def letters(text: str) -> str:
    return "".join(text.split()).replace("\u200b", "").replace("\u00a0", "")


def joined(blocks: list[Block]) -> str:
    """The page's source: blocks apart by an empty line, items of a list on lines of their own."""
    pieces = [
        ("\n" if block.list_item and before and before.list_item else "\n\n") + block.source
        for before, block in zip([None, *blocks], blocks, strict=False)
    ]
    return "".join(pieces).strip("\n")


def style_sheet(look: dict[str, Any]) -> str:
    """What the page adds to mathpix's own style."""
    paper, ink = "rgb({},{},{})".format(*look["paper"]), "rgb({0},{0},{0})".format(look["ink"])
    align = "justify" if look["justify"] else "left"
    return f"""
        html, body {{ background: {paper}; color: {ink}; margin: 0; padding: 0; }}
        #preview-content {{ padding: {look["margin"]}px; max-width: none; margin: 0; width: auto; }}
        #setText {{ columns: {look["columns"]}; column-gap: {2 * look["font_size"]}px; text-align: {align}; }}
        #setText, #setText * {{ font-family: "page"; color: {ink}; }}
        #setText, #setText > div, #setText p, #setText li, #setText td {{
            font-size: {look["font_size"]}px; line-height: {look["leading"]}; }}
        .main-title, .author, .abstract {{ column-span: all; }}
        .math-block, .table_tabular, li {{ break-inside: avoid; }}
        h1, h2, h3 {{ break-after: avoid; }}
        .abstract * {{ font-size: {look["font_size"]}px !important; }}
        """


# What a page says.


@dataclass
class _Writer:
    """Draws the blocks of one page."""

    language: scene.Language
    rng: numpy.random.Generator
    blocks: list[Block] = field(default_factory=list)

    @property
    def chinese(self) -> bool:
        return self.language.name == "zh"

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def phrase(self, words: tuple[int, int]) -> str:
        return phrases.name(self.language.documents, words, self.rng)

    def grammar(self) -> Grammar:
        return Grammar(int(self.rng.integers(2**62)), chemistry=False)

    def title(self) -> None:
        text = self.phrase((3, 9))
        self.blocks.append(Block(f"\\title{{\n{text}\n}}", text))
        if self.chance(0.7):
            author = self.phrase((2, 3)) if self.chinese else self.phrase((2, 2)).title()
            self.blocks.append(Block(f"\\author{{\n{author}\n}}", author))
        if not self.chinese and self.chance(0.4):
            text = self.prose()
            self.blocks.append(Block(f"\\begin{{abstract}}\n{text}\n\\end{{abstract}}", "Abstract" + text))

    def heading(self, number: int, numbered: bool) -> None:
        text = self.phrase((1, 6))
        text = f"{number}. {text}" if numbered else text
        level = "subsection" if self.chance(0.25) and not numbered else "section"
        self.blocks.append(Block(f"\\{level}*{{{text}}}", text))

    def prose(self) -> str:
        """A paragraph in which no character means more than itself."""
        documents = self.language.documents
        for _ in range(phrases.TRIES):
            document = documents[int(self.rng.integers(len(documents)))]
            text = document.paragraphs[int(self.rng.integers(len(document.paragraphs)))]
            if len(text) <= LONGEST and not MARKUP.search(text) and not LISTLIKE.match(text):
                return text
        raise produce.Rejected("no paragraph without markup")

    def paragraph(self, list_mark: str = "") -> None:
        text = self.prose()
        if list_mark:
            pieces = re.findall("[^\u3002]+\u3002?", text) if self.chinese else corpora.sentences(text)
            text = pieces[int(self.rng.integers(len(pieces)))]
            if LISTLIKE.match(text):
                raise produce.Rejected("no paragraph without markup")
        source, formulas = self.with_formulas(text)
        self.blocks.append(
            Block(f"{list_mark} {source}" if list_mark else source, text, formulas, list_item=bool(list_mark))
        )

    def with_formulas(self, text: str) -> tuple[str, int]:
        """The text with small formulas between some of its words."""
        joiner = "" if self.chinese else " "
        pieces = (
            re.findall(f"[{corpora.CHINESE}]+|[^{corpora.CHINESE}]+", text)
            if self.chinese
            else text.split(" ")
        )
        count = int(self.rng.integers(0, 4)) if self.chance(0.6) else 0
        places = set(self.rng.integers(1, max(2, len(pieces)), count).tolist()) - {len(pieces)}
        for index in sorted(places, reverse=True):
            pieces.insert(index, rf"\({self.grammar().inline()}\)")
        return joiner.join(pieces), len(places)

    def display(self) -> None:
        self.blocks.append(Block(rf"\[{self.grammar().formula()}\]", "", 1))

    def table(self) -> None:
        words = tables.ChineseWords(self.rng) if self.chinese else tables.EnglishWords(
            self.language.documents, self.rng
        )  # fmt: skip
        table = tables.made_up(words, (2, 5), (2, 7), self.rng)
        # mathpix knows neither booktabs nor tables in cells
        style = "lines" if table.style == "booktabs" else table.style
        rows = tuple(tuple(cell._replace(split=False) for cell in row) for row in table.rows)
        table = table._replace(style=style, rows=rows)
        cells = [cell for row in rows for cell in row]
        text = "".join(cell.text for cell in cells)
        shown = sum(not cell.covered for cell in cells)
        self.blocks.append(Block(tables.tabular(table), text, cells=shown))

    def items(self) -> None:
        ordered = self.chance(0.5)
        for number in range(1, int(self.rng.integers(2, 6)) + 1):
            self.paragraph(f"{number}." if ordered else "-")


def page_blocks(language: scene.Language, room: int, rng: numpy.random.Generator) -> list[Block]:
    """Blocks of about as many characters as there is room for."""
    writer = _Writer(language, rng)
    if writer.chance(0.5):
        writer.title()
    numbered, number, listed = writer.chance(0.3), 0, False
    costs = {"display": 0.1, "table": 0.3}  # of the room
    used = 0.0
    while used < room:
        before = len(writer.blocks)
        kind = ("heading", "display", "table", "items", "paragraph")[
            int(rng.choice(5, p=(0.14, 0.16, 0.08, 0.08, 0.54)))
        ]
        if kind == "heading":
            number += 1
            writer.heading(number, numbered)
            writer.paragraph()
        elif kind == "items" and listed:
            writer.paragraph()  # a list right after a list would go on with it
        else:
            getattr(writer, kind)()
        listed = kind == "items" and not listed
        used += 60 + costs.get(kind, 0) * room + sum(len(block.text) for block in writer.blocks[before:])
    return writer.blocks


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    options = arguments.CommandParser(
        prog="python -m data_tools.engines.markdown",
        description="Set pages of Mathpix markdown in a browser and write them as records.",
    )
    arguments.add_arguments(options, shard_pages=100)
    scene.add_language_arguments(options, DEFAULT_FONTS)
    degrade.add_arguments(options)
    options.add_argument(
        "--width", type=arguments.span, default=(760, 1000), help="pixels (default: 760-1000)"
    )
    options.add_argument("--font-size", type=arguments.span, default=(16, 21), help="pixels (default: 16-21)")
    options.add_argument("--image", choices=("jpg", "png"), default="jpg", help="(default: %(default)s)")
    return options


def make(args: argparse.Namespace) -> dict[str, Any]:
    """Records as the options ask; returns the counts."""
    versions = {
        name: json.loads((renderers.find_package(name) / "package.json").read_text())["version"]
        for name in PACKAGES
    }
    chosen, without = scene.languages(args)
    languages = tuple(_with_single_fonts(language) for language in chosen)
    engine = MarkdownEngine(
        languages=languages,
        width=args.width,
        sizes=args.font_size,
        chromium=renderers.find_program("chromium"),
        degrade=args.degrade,
        suffix=args.image,
        name=f"markdown-{args.split}",
    )
    fonts = {entry.name: [font.stem for font in entry.fonts] for entry in languages}
    return produce.write(engine, args, args.count, without, fonts=fonts, drawn_by=versions)


def _with_single_fonts(language: scene.Language) -> scene.Language:
    """The language with fonts that a browser takes."""
    fonts = tuple(font for font in language.fonts if font.suffix.lower() in CLOSED)
    if not fonts:
        raise DrawingError(
            f"--fonts: all {len(language.fonts)} for {language.name} are collections; name a .ttf or .otf"
        )
    return language._replace(fonts=fonts)


main = produce.command(parser, make)

if __name__ == "__main__":
    sys.exit(main())
