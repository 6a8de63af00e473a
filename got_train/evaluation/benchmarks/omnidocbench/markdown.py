r"""An answer in Markdown cut into blocks as the official code cuts it: tables, formulas, code, text.

What was taken out leaves spaces behind, so that a block's position is where it stands in the answer. The
order of cuts is the official one, and so are its oddities, which numbers depend on: a Markdown table is made
HTML line by line, and blank lines between texts are not counted in their positions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from lxml.html import HTMLParser, fromstring

from got_train.formats.tables import to_html

from . import latexml, normalize
from .rules import Rule

TEXT, FORMULA, HTML, LATEX, RESCUED = (
    "text_all",
    "equation_isolated",
    "html_table",
    "latex_table",
    "formula_rescue",
)
INLINE = "equation_inline"
RESCUES = ("text_formula", "image_formula", "formula_rescue", "table_formula_rescue")


@dataclass(frozen=True)
class Block:
    """A block of an answer: its kind for matching, its content and where it stands."""

    kind: str
    content: str
    start: int
    end: int
    fine: str = ""  # a finer kind
    source: tuple = ()  # of a line of a formula: what tells the formula that it was cut from

    @property
    def category(self) -> str:
        return self.fine or self.kind


_IMAGE = re.compile(r"!\[.*?\]\(.*?\)")
_IMAGE_TEXT = re.compile(r"!\[(.*?)\]\((.*?)\)")
_FENCES = (r"^```markdown\n?", r"^```html\n?", r"^```latex\n?", r"```\n?$")
_FORMULA = re.compile(r"\$\$(.*?)\$\$|\\\[(.*?)\\\]|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
_DOLLARS = re.compile(r"\$\$(.*?)\$\$|\$(.*?)\$|\\\((.*?)\\\)", re.DOTALL)
_MARKDOWN_ROW = re.compile(r"\|\s*.*?\s*\|\n", re.DOTALL)
_HTML_TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
_CODE = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
_WRAPPED = (
    (r"\\title\{(.*?)\}", 0),
    (r"\\title\s*\{\s*(.*?)\s*\}", re.DOTALL),
    (r"\\text\s*\{\s*(.*?)\s*\}", re.DOTALL),
    (r"\\section\*?\{(.*?)\}", 0),
    (r"\\section\*?\{\s*(.*?)\s*\}", re.DOTALL),
)


def blocks_of(answer: str, rule: Rule) -> list[Block]:
    """The blocks of an answer in the order of their positions."""
    wide = rule.search_formulas
    blocks: list[Block] = []
    if wide:
        for match in _IMAGE_TEXT.finditer(answer):
            blocks += _rescued(match[1].strip(), match.start(), match.end(), "image_formula")
    content = _IMAGE.sub(lambda match: " " * len(match[0]) if wide else "", answer)
    for fence in _FENCES:
        content = re.sub(fence, "", content, flags=re.MULTILINE)
    content = re.sub(r" {4,}", "    ", re.sub(r"_{4,}", "____", content))
    for tag in ("<html>", "</html>", "<body>", "</body>"):
        content = content.replace(tag, "")
    if wide:
        content = _without_formulas_in_descriptions(content)
    for cut in (_latex_tables, _html_tables, _formulas, _markdown_tables, _code):
        cut_blocks, content = cut(content, rule)
        blocks += cut_blocks
    blocks += _texts(content, rule)
    blocks.sort(key=lambda block: block.start)
    return [block for block in blocks if not (wide and _is_short_inline(block))]


def _blanked(content: str, start: int, end: int) -> str:
    return content[:start] + " " * (end - start) + content[end:]


def _latex_tables(content: str, rule: Rule) -> tuple[list[Block], str]:
    blocks = []
    for start, end, table in _tex_tables(content):
        html = latex_to_html(table, rule) if rule.latex_tables else ""
        kind, fine = (HTML, "latex2html_table") if html else (LATEX, LATEX if rule.latex_tables else "")
        blocks.append(Block(kind, html or table, start, start + len(table), fine))
        content = _blanked(content, start, end)
    return blocks, content


def latex_to_html(table: str, rule: Rule) -> str:
    """A LaTeX table in normalised HTML, by LaTeXML where it is installed, else by our converter."""
    if normalize.is_broken_latex(table, "table"):
        return ""
    html = latexml.to_html(table) if latexml.is_installed() else to_html(table) or ""
    return normalize.html_table(html, rule) if html else ""


_TABULAR = (r"\\begin{tabular}", r"\\end{tabular}")
_TABLE = (r"<table(?:[^>]*)>", r"</table>")


def _tex_tables(content: str) -> list[tuple[int, int, str]]:
    tables = []
    for match in re.finditer(r"\\begin{table}(.*?)\\end{table}", content, re.DOTALL):
        tables.append((match.start(), match.end(), match[0]))
        content = _blanked(content, match.start(), match.end())
    tables += [(start, end, content[start:end]) for start, end in _outermost(content, *_TABULAR)]
    return sorted(tables, key=lambda table: table[0])


def _outermost(content: str, begin: str, end: str) -> list[tuple[int, int]]:
    """Where outermost tables begin and end; after a table that never ends the search begins again.

    As published, the length of an end is that of its pattern: a LaTeX table takes one character more along.
    """
    spans: list[tuple[int, int]] = []
    index, stack = 0, []
    while index < len(content):
        opened = re.compile(begin).search(content, index)
        closed = re.compile(end).search(content, index)
        if opened and (not closed or opened.start() < closed.start()):
            stack.append(opened.start())
            index = opened.start() + len(end)
        elif closed:
            index = closed.start() + len(end)
            if stack:
                start = stack.pop()
                if not stack:
                    spans.append((start, min(index, len(content))))
        else:
            break
    if stack:
        rest = stack[0] + len(begin)
        spans += [(start + rest, stop + rest) for start, stop in _outermost(content[rest:], begin, end)]
    return spans


def _html_tables(content: str, rule: Rule) -> tuple[list[Block], str]:
    blocks = []
    for start, end in _outermost(content, *_TABLE):
        table = content[start:end]
        blocks.append(Block(HTML, table, start, start + len(table)))
        if rule.search_formulas:
            blocks += _formulas_of_cells(table, start)
        content = _blanked(content, start, end)
    return blocks, content


def _formulas(content: str, rule: Rule) -> tuple[list[Block], str]:
    blocks = []
    for match in _FORMULA.finditer(content):
        line = " ".join(match[0].strip().split("\n"))
        dollars = _DOLLARS.search(line)
        displayed = dollars is None or bool(dollars[1])
        if dollars is not None:
            line = _DOLLARS.sub(r"\\[\1\\]" if dollars[1] else r"\\[\2\3\\]", line)
        if displayed:
            content = _blanked(content, *match.span())
        block = Block(FORMULA, line, match.start(), match.end(), "" if displayed else INLINE)
        blocks += _display_blocks(block) if rule.search_formulas else [block]
    return blocks, content


def _markdown_tables(content: str, rule: Rule) -> tuple[list[Block], str]:
    blocks: list[Block] = []
    if len(_MARKDOWN_ROW.findall(content + "\n")) < 2:
        return blocks, content
    content = _markdown_to_html(content)
    for match in _HTML_TABLE.finditer(content):
        blocks.append(Block(HTML, match[0].strip(), match.start(), match.end(), "md2html_table"))
        if rule.search_formulas:
            blocks += _formulas_of_cells(match[0].strip(), match.start())
        content = _blanked(content, *match.span())
    return blocks, content


def _markdown_to_html(content: str) -> str:
    """Each row becomes a table of its own, then neighbouring tables become one."""
    content = content.replace("\r", "") + "\n"
    for row in _MARKDOWN_ROW.findall(content):
        content = content.replace(row, _row_table(row), 1)
    joined = _joined_tables(content)
    return joined.replace("<table>", '<table border="1" >').replace("<td>", '<td colspan="1" rowspan="1">')


def _row_table(row: str) -> str:
    lines = [line.strip() for line in row.strip().split("\n")]
    heads = "".join(f"      <th>{cell.strip()}</th>\n" for cell in lines[0].split("|")[1:-1])
    body = ""
    for line in lines[2:]:
        cells = "".join(f"      <td>{cell.strip()}</td>\n" for cell in line.split("|")[1:-1])
        body += f"    <tr>\n{cells}    </tr>\n"
    head = f"<table>\n  <thead>\n    <tr>\n{heads}    </tr>\n  </thead>\n"
    return f"{head}  <tbody>\n{body}  </tbody>\n</table>\n"


def _is_rule(line: str) -> bool:
    """Whether a line is taken for the rule under a table's head: one with a colon is, too."""
    return ":" in line or "---" in line


def _joined_tables(content: str) -> str:
    output: list[str] = []
    inside, gathered, last = False, "", ""
    for line in content.split("\n"):
        if "<table>" in line:
            inside = True
            gathered += last
        elif inside:
            if not _is_rule(last) and "</thead>" not in last:
                gathered += "\n" + last
            if "</table>" in last and "<table>" not in line:
                inside = False
                output.append(_one_table(gathered))
                gathered = ""
        else:
            output.append(last)
        last = line
    if last:
        if inside or "</table>" in last:
            output.append(_one_table(gathered + "\n" + last))
        else:
            output.append(last)
    return "\n".join(output)


def _one_table(content: str) -> str:
    rows: list[str] = []
    for table in re.findall(r"<table>[\s\S]*?</table>", re.sub(r"<!--[\s\S]*?-->", "", content)):
        lines = [
            line.replace("<th>", "<td>").replace("</th>", "</td>") if "<th>" in line else line
            for line in table.split("\n")
        ]
        lines = [line for line in lines if not re.search(r"</?t(able|head|body)>", line)]
        if len(lines) > 2:
            rows += lines
    return "\n\n<table>\n" + "\n".join(rows) + "\n</table>\n\n"


def _code(content: str, rule: Rule) -> tuple[list[Block], str]:
    blocks = []
    for match in _CODE.finditer(content):
        blocks.append(Block(TEXT, match[2].strip(), match.start(), match.end(), "code"))
        content = _blanked(content, *match.span())
    return blocks, content


def _texts(content: str, rule: Rule) -> Iterator[Block]:
    for pattern, flags in _WRAPPED:
        content = re.sub(pattern, r"\1", content, flags=flags)
    parts = content.split("\n\n")
    if len(parts) == 1:
        parts = content.split("\n")
    start = 0
    for part in parts:
        end = start + len(part)
        lines = (line.strip() for line in part.strip().split("\n"))
        text = "\n".join(line for line in lines if line)
        if rule.search_formulas:
            text = _text_of_html(text).strip()
            if text:
                yield Block(TEXT, text, start, end, "text_block")
                yield from _rescued(text, start, end, "text_formula")
        elif text.startswith("<table") and text.endswith("</table>"):
            yield Block(HTML, text, start, end)
        elif text.startswith("$") and text.endswith("$"):
            if text.replace("$", "").strip():
                yield Block(FORMULA, text, start, end)
        elif text:
            yield Block(TEXT, text, start, end, "text_block")
        start = end


# --- 1.6 only


def _text_of_html(text: str) -> str:
    """The text of a block that is a <div>."""
    if not re.match(r"<(div|dir)\b", text, re.IGNORECASE) or "<table" in text.lower():
        return text
    root = fromstring(f"<html><body>{text}</body></html>", parser=HTMLParser(remove_comments=True))
    for element in [*root.iter("style", "script")]:
        element.drop_tree()
    for element in root.iter("br"):
        element.tail = "\n" + (element.tail or "")
    for element in root.iter("div", "dir", "p", "li"):
        if len(element):
            element[-1].tail = (element[-1].tail or "") + "\n"
        else:
            element.text = (element.text or "") + "\n"
    lines = (line.strip() for line in root.text_content().replace("\xa0", " ").split("\n"))
    return "\n".join(line for line in lines if line) or text


_DESCRIPTIONS = ("the image ", "the figure ", "the diagram ", "diagram:", "[diagram:", "[image:", "qr code ")


def _without_formulas_in_descriptions(content: str) -> str:
    """What describes a picture in words has no formulas: their delimiters go."""
    parts = re.split(r"(\n\s*\n)", content)
    for index in range(0, len(parts), 2):
        words = " ".join(parts[index].split()).lower()
        if len(words) >= 24 and words.startswith(_DESCRIPTIONS):
            plain = re.sub(r"\\\((.*?)\\\)", lambda match: match[1], parts[index], flags=re.DOTALL)
            parts[index] = re.sub(r"\$(.*?)\$", lambda match: match[1], plain, flags=re.DOTALL)
    return "".join(parts)


_SPACE = r"(?:\\qquad|\\quad|\\enspace|\\,|\\;|\\:)"
_NUMBER = re.compile(
    rf"\s*(?P<number>(?:\\left\(\s*[0-9IVXivx]+\s*\\right\)|\(\s*[0-9IVXivx]+\s*\)))\s*(?:{_SPACE}\s*)*"
)
_CAPTIONS = (
    re.compile(rf"(?P<space>{_SPACE}\s*)(?P<caption>\\text\s*\{{[^{{}}]*\}}\.?)\s*$"),
    re.compile(rf"(?P<space>{_SPACE}\s*)(?P<caption>\([^)]*[A-Za-z][^)]*\)\.?)\s*$"),
)
_ENVELOPES = (("\\[", "\\]"), ("\\(", "\\)"), ("$$", "$$"), ("$", "$"))


def _display_blocks(block: Block) -> list[Block]:
    """A formula without the number or caption beside it, which are text; several in one line are several."""
    formula, beside = block.content, []
    if _has_margin(formula):
        formula, beside = _without_margin(block)
    parts = _compound(replace(block, content=formula))
    return [*(parts or [replace(block, content=formula)]), *beside]


def _envelope(formula: str) -> tuple[str, str, str]:
    formula = " ".join(formula.split())
    for left, right in _ENVELOPES:
        if formula.startswith(left) and formula.endswith(right) and len(formula) >= len(left) + len(right):
            return left, right, formula[len(left) : len(formula) - len(right)].strip()
    return "", "", formula


def _enveloped(formula: str, left: str, right: str) -> str:
    formula = formula.strip()
    return f"{left} {formula} {right}" if formula and left else formula


def _has_margin(formula: str) -> bool:
    inner = _envelope(formula)[2]
    if not inner:
        return False
    if _NUMBER.match(inner):
        return True
    matches = (pattern.search(inner) for pattern in _CAPTIONS)
    return any(match and _is_caption(match["caption"]) for match in matches)


def _without_margin(block: Block) -> tuple[str, list[Block]]:
    compact = " ".join(block.content.split())
    left, right, working = _envelope(compact)
    texts: list[Block | None] = []
    match = _NUMBER.match(working)
    if match:
        number = match["number"].strip()
        texts.append(_margin_text(number, block.start, min(block.end, block.start + max(len(number), 1))))
        working = working[match.end() :].strip()
    while working:
        for pattern in _CAPTIONS:
            match = pattern.search(working)
            if match and _is_caption(match["caption"].strip()):
                caption = match["caption"].strip()
                start = max(block.start, block.end - max(len(caption), 1))
                texts.append(_margin_text(caption, start, block.end))
                working = working[: match.start("space")].rstrip()
                break
        else:
            break
    working = re.sub(rf"(?:{_SPACE}\s*)+$", "", working).strip()
    if not working:
        return compact, []
    return _enveloped(working, left, right), [text for text in texts if text is not None]


def _plain(formula: str) -> str:
    text = normalize.latex_to_text(formula.strip()).replace("\xa0", " ")
    return re.sub(r"\s+", " ", text).strip()


def _margin_text(text: str, start: int, end: int) -> Block | None:
    plain = _plain(text)
    return Block(TEXT, plain, start, end, "equation_caption") if plain else None


def _is_caption(raw: str) -> bool:
    """Whether what stands beside a formula is words, not part of it."""
    raw = raw.strip()
    plain = _plain(raw) if raw else ""
    if not plain:
        return False
    letters = len(re.findall(r"[A-Za-z]", plain))
    words = len(re.findall(r"[A-Za-z]{2,}", plain))
    signs = len(re.findall("(\\\\[A-Za-z]+|[=<>\u2264\u2265\u00f7\u00d7\u00b1\u2211\u222b\u221a_^{}])", raw))
    core = plain[1:-1].strip() if plain.startswith("(") and plain.endswith(")") else plain
    if re.fullmatch(r"[0-9IVXivx]+", core.replace(" ", "")):
        return False
    if letters >= 10 and words >= 2 and signs <= 6:
        return True
    return letters >= 14 and not re.search(r"\d", plain) and signs <= 3


def _compound(block: Block) -> list[Block]:
    """Sums in one line with wide spaces between them, each a block."""
    left, right, inner = _envelope(block.content)
    if "\\quad" not in inner and "\\qquad" not in inner:
        return []
    parts = [part.strip() for part in re.split(r"\s*(?:\\qquad|\\quad)\s*", inner) if part.strip()]
    if len(parts) <= 1 or not all(map(_is_arithmetic, parts)):
        return []
    width = max(max(block.end - block.start, len(parts)) // len(parts), 1)
    starts = [block.start + number * width for number in range(len(parts))]
    ends = [min(block.end, start + width) for start in starts[:-1]] + [block.end]
    return [
        replace(block, content=_enveloped(part, left, right), start=start, end=end)
        for part, start, end in zip(parts, starts, ends, strict=True)
    ]


_RELATIONS = ("=", "\\approx", "\u2248", "\\neq", "\u2260", "\\leq", "\u2264", "\\geq", "\u2265")


def _is_arithmetic(part: str) -> bool:
    part = " ".join(part.split())
    if not part or len(part) > 160 or "\\begin{" in part or "\\end{" in part:
        return False
    if re.search(r"\\(mathbf|left|right|cdot|lambda|Gamma|varGamma|text|matrix|pmatrix|bmatrix)", part):
        return False
    if not any(relation in part for relation in _RELATIONS):
        return False
    fraction = "\\frac" in part or re.search(r"\d+\s*/\s*\d+", part)
    return len(re.findall(r"\d", part)) >= 2 or bool(fraction)


_FORMULA_TOKEN = re.compile(
    r"(\\frac|\\sqrt|\\sum|\\int|\\prod|\\times|\\div|\\square|\\cdots|\\left|\\right|"
    r"\\approx|\\xrightarrow|\\rightarrow|\\longrightarrow|"
    "=|<|>|\u2264|\u2265|\u2248|\u00f7|\u00d7|\u00b1|\u2211|\u222b|\u221a|\u2192|\\^|_|\u25a1|\u25b3|\u2026|%|/|\\+|-)"
)
_RESIDUAL = re.compile(
    "(\\\\[A-Za-z]+|[=<>\u2264\u2265\u00f7\u00d7\u00b1\u2211\u222b\u221a\\^_\u25a1\u25b3\u2026%/()+\\-])"
)
_INLINE_FORMULA = re.compile(r"\$(.*?)\$|\\\((.*?)\\\)")
_SYMBOLS = {
    "\u2026\u2026": " \\cdots \\cdots ",
    "\u2026": " \\cdots ",
    "\u00d7": " \\times ",
    "\u00f7": " \\div ",
    "\u2264": " \\leq ",
    "\u2265": " \\geq ",
    "\u2260": " \\neq ",
    "\u2248": " \\approx ",
    "\u25a1": " \\square ",
    "\u25b3": " \\triangle ",
    "\uff08": "(",
    "\uff09": ")",
    "\uff3b": "[",
    "\uff3d": "]",
    "\uff5b": "{",
    "\uff5d": "}",
}


def _unwrapped(text: str) -> str:
    for pattern in (r"\$\$(.*?)\$\$", r"\\\[(.*?)\\\]", r"\\\((.*?)\\\)", r"\$(.*?)\$"):
        text = re.sub(pattern, lambda match: f" {match[1]} ", text, flags=re.DOTALL)
    return text


def _is_like_formula(text: str) -> bool:
    """Whether a short text may be a formula that was not written as one."""
    text = " ".join(text.split())
    if not text or len(text) > 220:
        return False
    bare = _unwrapped(text)
    compact = re.sub(r"\s+", "", bare)
    if not compact:
        return False
    operators, digits = len(_FORMULA_TOKEN.findall(bare)), len(re.findall(r"\d", bare))
    inline = len(_INLINE_FORMULA.findall(text)) + len(
        re.findall(r"\$\$(.*?)\$\$|\\\[(.*?)\\\]", text, re.DOTALL)
    )
    chinese, words = len(re.findall("[\u4e00-\u9fff]", bare)), len(re.findall(r"[A-Za-z]{4,}", bare))
    residual = re.sub(r"\s+", "", re.sub(r"\d", " ", _RESIDUAL.sub(" ", bare)))
    arrow = any(token in bare for token in ("\\xrightarrow", "\\longrightarrow", "\u2192"))
    square = "\u25a1" in bare or "\\square" in bare
    return (
        (inline > 0 and len(residual) <= 18 and operators >= 1)
        or (square and operators >= 1 and words <= 1 and len(compact) <= 80)
        or (arrow and chinese <= 24 and len(compact) <= 120)
        or (operators >= 2 and digits >= 1 and words <= 2 and chinese <= 12 and len(compact) <= 100)
        or (operators >= 3 and not words and chinese <= 18 and len(compact) <= 80)
    )


def _as_formula(text: str) -> str:
    """A text as a displayed formula in LaTeX."""
    text = _unwrapped(" ".join(text.replace("\u3000", " ").split()))
    for written, command in _SYMBOLS.items():
        text = text.replace(written, command)
    arrow = re.search(r"(?P<lhs>.*?)\\xrightarrow\s*\{(?P<label>[^{}]+)\}(?P<rhs>.*)", text)
    if arrow:
        text = _reaction(arrow["lhs"].strip(), arrow["label"].strip(), arrow["rhs"].strip())
    text = re.sub(r"(?<!\\)&", r"\\&", re.sub(r"(?<!\\)%", r"\\%", text))
    text = re.sub(r"\s+", " ", text).strip()
    if not text or text.startswith(("\\begin{", "$$", "\\[")):
        return text
    return f"\\[ {text} \\]"


_REDOX = "\u6c27\u5316\u8fd8\u539f\u53cd\u5e94"  # oxidation-reduction reaction, written behind its formula


def _reaction(left: str, label: str, right: str) -> str:
    label = f"\\text{{{label}}}" if label and "\\" not in label else label
    if right.endswith(_REDOX):
        main = right[: -len(_REDOX)].strip()
        return f"{left} \\underset{{{_REDOX}}}{{\\xrightarrow{{{label}}}}} {main}".strip()
    return f"{left} \\xrightarrow{{{label}}} {right}".strip()


def _rescued(text: str, start: int, end: int, fine: str) -> Iterator[Block]:
    formula = _as_formula(text) if _is_like_formula(text) else ""
    if formula:
        arrow = "\\xrightarrow" in formula or "\\longrightarrow" in formula
        yield Block(FORMULA if arrow else RESCUED, formula, start, end, fine)


def _formulas_of_cells(table: str, start: int) -> Iterator[Block]:
    root = fromstring(f"<html><body>{table}</body></html>", parser=HTMLParser(remove_comments=True))
    start = max(start, 0)
    for element in root.iter("td", "th"):
        text = " ".join(" ".join(element.itertext()).split())
        formula = _as_formula(text) if _is_formula_cell(text) else ""
        if formula:
            end = start + max(len(text), 1)
            yield Block(FORMULA, formula, start, end, "table_formula_rescue")
            start = end + 1


_OPERATORS = ("=", "+", "-", "\u00d7", "\u00f7", "/", "\u2248", "\\times", "\\div", "\\approx")


def _is_formula_cell(text: str) -> bool:
    if not text or len(text) > 120 or not _is_like_formula(text):
        return False
    if not any(token in text for token in _OPERATORS):
        return False
    fraction = "\\frac" in text or re.search(r"\d+\s*/\s*\d+", text)
    return len(re.findall(r"\d", text)) >= 2 or bool(fraction)


_STRONG = (
    *(
        "=",
        "<",
        ">",
        "\u2264",
        "\u2265",
        "\u2248",
        "\u2260",
        "^",
        "+",
        "-",
        "/",
        "\\cdot",
        "\\frac",
        "\\sqrt",
    ),
    *("\\sum", "\\int", "\\times", "\\div", "\\approx", "\\neq", "\\leq", "\\geq", "\\xrightarrow"),
    "\\longrightarrow",
)
_LABELS = (
    r"[A-Za-z0-9._,-]+",
    r"[A-Za-z0-9]+Oy",
    "[\u0393\u03b3\u03bb\u03bc\u03bdxyzuvwMNOabcABC0-9._,-]+",
)


def _is_short_inline(block: Block) -> bool:
    """Whether a formula inside a line is a mere label, such as a name or a number, and no candidate."""
    if block.kind != FORMULA or block.fine != INLINE or not block.content.strip():
        return False
    core = _unwrapped(block.content.strip())
    compact = re.sub(r"\s+", "", core)
    if compact.startswith(("\\xrightarrow", "\\longrightarrow")):
        return True
    if not compact or len(compact) > 24 or any(token in core for token in _STRONG):
        return False
    return any(re.fullmatch(pattern, compact) for pattern in _LABELS)
