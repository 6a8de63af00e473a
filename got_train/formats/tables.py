r"""Tables in LaTeX, HTML or Markdown, found in a text and written as one HTML table each.

Knows how tables are written; what a table is worth is the matter of `tables`.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

ENVIRONMENTS = {  # LaTeX: what stands between \begin{...} and the first cell, as in COMMANDS
    "tabular": "om",
    "tabular*": "mom",
    "tabularx": "mom",
    "tabulary": "mom",
    "longtable": "om",
    "supertabular": "om",
}
# arguments: o [optional]  l [a length]  p (optional)  s optional star  m {dropped}  t {text that stays}
COMMANDS = {
    name: arguments
    for names, arguments in {
        "hline hdashline firsthline lasthline thickhline morecmidrules endhead endfirsthead endfoot": "",
        "endlastfoot centering raggedright raggedleft arraybackslash noindent strut protect relax": "",
        "bf it sf tt rm sc em bfseries itshape ttfamily sffamily normalfont mdseries displaystyle": "",
        "tiny scriptsize footnotesize small normalsize large Large LARGE huge Huge boldmath nobreak": "",
        "toprule midrule bottomrule addlinespace": "l",
        "cline hhline Xhline noalign label vspace columncolor": "om",
        "color cellcolor rowcolor arrayrulecolor": "omoo",
        "cmidrule cdashline Xcline": "opmo",
        "setlength rule": "omm",
        "specialrule": "mmm",
        "textbf textit textrm textsf texttt textsc textsl textmd textup textnormal emph underline": "t",
        "uline sout text mbox fbox hbox textsuperscript textsubscript url caption centerline": "t",
        "thead makecell shortstack": "sot",
        "textcolor colorbox rotatebox": "omt",
        "scalebox": "mot",
        "resizebox": "smmt",
        "raisebox": "moot",
        "parbox": "ooomt",
        "href": "mt",
    }.items()
    for name in names.split()
}
SPACES = {"quad", "qquad", "newline", "linebreak", "enspace", "thinspace", "hfill", "par", "tabularnewline"}
SYMBOLS = {
    "textbackslash": "\\",
    "textasciitilde": "~",
    "textasciicircum": "^",
    "textunderscore": "_",
    "textdollar": "$",
    "textbar": "|",
    "textless": "<",
    "textgreater": ">",
    "textdegree": "\u00b0",
    "textpm": "\u00b1",
    "texttimes": "\u00d7",
    "textmu": "\u00b5",
    "textbullet": "\u2022",
    "textperiodcentered": "\u00b7",
    "textendash": "\u2013",
    "textemdash": "\u2014",
    "textregistered": "\u00ae",
    "texttrademark": "\u2122",
    "copyright": "\u00a9",
    "textcopyright": "\u00a9",
    "dots": "\u2026",
    "ldots": "\u2026",
    "textellipsis": "\u2026",
    "dag": "\u2020",
    "ddag": "\u2021",
    "checkmark": "\u2713",
    "euro": "\u20ac",
    "texteuro": "\u20ac",
    "pounds": "\u00a3",
    "S": "\u00a7",
    "P": "\u00b6",
    "ss": "\u00df",
    "ae": "\u00e6",
    "AE": "\u00c6",
    "oe": "\u0153",
    "OE": "\u0152",
    "o": "\u00f8",
    "O": "\u00d8",
    "aa": "\u00e5",
    "AA": "\u00c5",
    "l": "\u0142",
    "L": "\u0141",
    "i": "\u0131",
    "j": "\u0237",
}
ACCENTS = {  # to the combining character
    **{
        "`": "\u0300",
        "'": "\u0301",
        "^": "\u0302",
        '"': "\u0308",
        "~": "\u0303",
        "=": "\u0304",
        ".": "\u0307",
    },
    **{
        "u": "\u0306",
        "v": "\u030c",
        "H": "\u030b",
        "c": "\u0327",
        "r": "\u030a",
        "k": "\u0328",
        "b": "\u0331",
    },
    "d": "\u0323",
}
LIGATURES = {"---": "\u2014", "--": "\u2013", "``": "\u201c", "''": "\u201d", "`": "\u2018"}
_LENGTH = re.compile(r"\s*\[\s*-?[\d.]*\s*(?:pt|mm|cm|in|ex|em|sp|bp|\\\w+)\s*\]")
# a percentage whose backslash the model forgot is none
_COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)(?<!\d)%[^\n]*\n?[ \t]*")
_BEGIN = re.compile(r"\\begin\s*\{(" + "|".join(map(re.escape, ENVIRONMENTS)) + r")\}")
_HTML = re.compile(r"<(/?)table\b[^>]*>", re.IGNORECASE)
_CELL_TAG = re.compile(r"</?(?:table|thead|tbody|tfoot|tr|t[dh]|caption)\b[^>]*>", re.IGNORECASE)
_BLANK = re.compile(r"\n[ \t\r]*\n")
_RULE_LINE = re.compile(r"[ \t]*\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_FLOAT = re.compile(
    r"[ \t]*\\(?:begin\s*\{table\*?\}(?:\[[^\]]*\])?|end\s*\{table\*?\}|centering\b)[ \t]*\n?"
)


@dataclass(frozen=True)
class Table:
    """A table of a text, `text[start:end]`; one whose end is missing runs to the end of the text."""

    html: str
    form: str  # "latex", "html" or "markdown"
    start: int
    end: int
    closed: bool = True


@dataclass
class _Cell:
    text: str
    row: int
    column: int
    rows: int
    columns: int


def find_tables(text: str) -> list[Table]:
    """All tables of a text in their order; one inside another belongs to it."""
    tables = sorted(
        [*_latex_tables(text), *_html_tables(text), *_markdown_tables(text)], key=lambda t: t.start
    )
    outer: list[Table] = []
    for table in tables:
        if not outer or table.start >= outer[-1].end:
            outer.append(table)
    return outer


def to_html(text: str) -> str | None:
    """The first table of a text as `<table>...</table>`; None if there is none."""
    tables = find_tables(text)
    return tables[0].html if tables else None


def with_html_tables(text: str) -> str:
    """A page with its LaTeX and Markdown tables as HTML; all else stays, but the frame of a LaTeX float."""
    parts, end = [], 0
    for table in find_tables(text):
        parts += [_without_float(text[end : table.start]), table.html]
        end = table.end
    return "".join([*parts, _without_float(text[end:])])


def _without_float(text: str) -> str:
    text = _FLOAT.sub("", text)
    while (match := re.search(r"\\caption\s*(?=\{)", text)) and (end := _group_end(text, match.end())):
        text = text[: match.start()] + text[match.end() + 1 : end - 1] + text[end:]
    return text


def _html_tables(text: str) -> Iterator[Table]:
    depth, start = 0, 0
    for match in _HTML.finditer(text):
        if not match[1]:
            start = start if depth else match.start()
            depth += 1
        elif depth:
            depth -= 1
            if not depth:
                yield Table(text[start : match.end()], "html", start, match.end())
    if depth:
        end = _html_end(text, start)
        yield Table(text[start:end] + "</table>" * depth, "html", start, end, closed=False)


def _html_end(text: str, start: int) -> int:
    """Where one without an end ends: at the first blank line behind its last tag, or with the text."""
    last = start
    for match in _CELL_TAG.finditer(text, start):
        last = match.end()
    blank = _BLANK.search(text, last)
    return blank.start() if blank else len(text)


def _markdown_tables(text: str) -> Iterator[Table]:
    """A line of cells, a line of dashes, more lines of cells; a table without bars on its rule is none."""
    lines = [(match.start(), match[0]) for match in re.finditer(r"[^\n]+|(?<=\n)(?=\n)", text)]
    row = 1
    while row < len(lines):
        rule = lines[row][1]
        if "|" in rule and _RULE_LINE.fullmatch(rule.rstrip("\r")) and "|" in lines[row - 1][1]:
            last = row
            while last + 1 < len(lines) and "|" in lines[last + 1][1]:
                last += 1
            rows = [lines[row - 1][1], *(line for _, line in lines[row + 1 : last + 1])]
            end = lines[last][0] + len(lines[last][1])
            yield Table(_markdown_html(rows), "markdown", lines[row - 1][0], end)
            row = last
        row += 1


def _markdown_html(lines: list[str]) -> str:
    rows = []
    for line in lines:
        cells = re.split(r"(?<!\\)\|", line.strip())
        cells = cells[1:] if not cells[0].strip() else cells
        cells = cells[:-1] if len(cells) > 1 and not cells[-1].strip() else cells
        texts = (re.sub(r"\*\*(.+?)\*\*", r"\1", cell.strip()).replace("\\|", "|") for cell in cells)
        rows.append("<tr>" + "".join(f"<td>{text}</td>" for text in texts) + "</tr>")
    return f"<table>{''.join(rows)}</table>"


def _latex_tables(text: str) -> Iterator[Table]:
    position = 0
    while match := _BEGIN.search(text, position):
        body, end, closed = _environment(text, match)
        yield Table(_latex_html(body), "latex", match.start(), end, closed)
        position = end


def _environment(text: str, begin: re.Match) -> tuple[str, int, bool]:
    r"""What stands between a `\begin` and its `\end`, where that ends, and whether it is there."""
    start = _Reader(text, begin.end()).skip(ENVIRONMENTS[begin[1]])
    depth = 1
    for match in re.finditer(rf"\\(begin|end)\s*\{{{re.escape(begin[1])}\}}", text[start:]):
        depth += 1 if match[1] == "begin" else -1
        if not depth:
            return text[start : start + match.start()], start + match.end(), True
    end = outer_end(text, start)
    end = len(text) if end is None else end
    return text[start:end], end, False


def outer_end(text: str, start: int) -> int | None:
    r"""Where an environment ends that began before `start`: the first `\end` after it without a `\begin`."""
    inner: list[str] = []
    for match in re.finditer(r"\\(begin|end)\s*\{([^{}]*)\}", text[start:]):
        if match[1] == "begin":
            inner.append(match[2])
        elif match[2] not in inner:
            return start + match.start()
        else:
            while inner.pop() != match[2]:
                pass
    return None


def _latex_html(body: str) -> str:
    rows = [[_read(cell) for cell in row] for row in _rows(_COMMENT.sub(r"\1", body))]
    if rows and len(rows[-1]) == 1 and rows[-1][0] == ("", 1, 1):  # only rules follow the last row's end
        rows.pop()
    width = max((sum(columns for _, columns, _ in row) for row in rows), default=0)
    for row in rows:  # LaTeX leaves the rest of a short row empty
        row += [("", 1, 1)] * (width - sum(columns for _, columns, _ in row))
    return _html(_layout(rows), len(rows))


def _rows(body: str) -> list[list[str]]:
    r"""Cut at `\\` and `&`, but not inside braces or environments; where these do not close, everywhere."""
    for nested in (True, False):
        rows, cell, depth, position = [[]], "", 0, 0
        for match in re.finditer(r"\\begin\b|\\end\b|\\tabularnewline\b|\\[^A-Za-z]|[{}&]", body):
            if match.start() < position:  # inside the length after a row's end
                continue
            cell += body[position : match.start()]
            token, position = match[0], match.end()
            depth += (token in ("{", "\\begin")) - (token in ("}", "\\end")) if nested else 0
            if depth == 0 and token in ("\\\\", "\\tabularnewline"):
                rows[-1].append(cell)
                rows.append([])
                cell = ""
                position = _after_row_end(body, position)
            elif depth == 0 and token == "&":
                rows[-1].append(cell)
                cell = ""
            else:
                cell += token
        rows[-1].append(cell + body[position:])
        if depth == 0:
            return rows
    raise AssertionError("without nesting the depth stays 0")


def _after_row_end(body: str, position: int) -> int:
    position += body.startswith("*", position)
    length = _LENGTH.match(body, position)
    return length.end() if length else position


def _read(cell: str) -> tuple[str, int, int]:
    """The text of a cell, the columns and the rows it spans; rows are negative if it spans upwards."""
    reader = _Reader(cell)
    text = " ".join(reader.text().split())
    return text, reader.columns, reader.rows


def _layout(rows: list[list[tuple[str, int, int]]]) -> list[_Cell]:
    """The cells at their places; the empty ones under a cell that spans rows are left out."""
    cells: list[_Cell] = []
    owners: dict[tuple[int, int], _Cell] = {}
    for row, line in enumerate(rows):
        column = 0
        for text, columns, height in line:
            positions = [(row, column + step) for step in range(columns)]
            column += columns
            above = {id(owners[position]): owners[position] for position in positions if position in owners}
            if above and not text:
                positions = [position for position in positions if position not in owners]
            else:
                for cell in above.values():  # there is text below it, so it ends here
                    cell.rows = row - cell.row
                    owners = {position: owner for position, owner in owners.items() if owner is not cell}
            if positions:
                first, height = _upwards(cells, owners, positions, height)
                cell = _Cell(text, first, positions[0][1], min(height, len(rows) - first), len(positions))
                cells.append(cell)
                owners |= {(first + down, at): cell for down in range(cell.rows) for _, at in positions}
    return cells


def _upwards(
    cells: list[_Cell], owners: dict[tuple[int, int], _Cell], positions: list[tuple[int, int]], height: int
) -> tuple[int, int]:
    """The first row and the height of a cell; one that spans upwards takes the empty cells above it."""
    row = positions[0][0]
    if height >= -1:
        return row, max(1, height)
    first = max(0, row + height + 1)
    taken = [owners.get((above, column)) for above in range(first, row) for _, column in positions]
    if any(cell is None or cell.text or cell.rows > 1 or cell.columns > len(positions) for cell in taken):
        return row, 1
    removed = {id(cell) for cell in taken}
    cells[:] = [cell for cell in cells if id(cell) not in removed]
    return first, row - first + 1


def _html(cells: list[_Cell], rows: int) -> str:
    lines: list[list[str]] = [[] for _ in range(rows)]
    for cell in sorted(cells, key=lambda cell: (cell.row, cell.column)):
        spans = f' colspan="{cell.columns}"' * (cell.columns > 1) + f' rowspan="{cell.rows}"' * (
            cell.rows > 1
        )
        lines[cell.row].append(f"<td{spans}>{html.escape(cell.text, quote=False)}</td>")
    return f"<table>{''.join(f'<tr>{chr(0).join(line)}</tr>' for line in lines)}</table>".replace("\0", "")


def _group_end(source: str, start: int) -> int:
    """The place after the brace that closes the one at `start`; 0 if none does."""
    depth = 0
    for match in re.finditer(r"\\.|[{}]", source[start:], re.DOTALL):
        depth += (match[0] == "{") - (match[0] == "}")
        if depth == 0 and match[0] == "}":
            return start + match.end()
    return 0


class _Reader:
    """The text of a cell from its LaTeX: formats go, formulas stay as $...$, unknown commands as they are."""

    TOKEN = re.compile(
        r"\\\((?P<round>.*?)\\\)|\\\[(?P<square>.*?)\\\]|(?P<dollars>\${1,2})(?P<math>(?:\\.|[^$\\])*)(?P=dollars)"
        r"|\\(?P<command>[A-Za-z]+)[ \t\n]*|\\(?P<other>.)|(?P<ligature>---?|``|''|`)|(?P<tie>~)|[{}]",
        re.DOTALL,
    )

    def __init__(self, source: str, position: int = 0) -> None:
        self.source = source
        self.place = position
        self.columns = 1
        self.rows = 1

    def text(self) -> str:
        parts = []
        while match := self.TOKEN.search(self.source, self.place):
            parts.append(self.source[self.place : match.start()])
            self.place = match.end()
            parts.append(self._token(match))
        return "".join([*parts, self.source[self.place :]])

    def skip(self, signature: str) -> int:
        """The place behind arguments that are dropped."""
        for kind in signature:
            self._argument(kind)
        return self.place

    def _token(self, match: re.Match) -> str:
        for name in ("round", "square", "math"):
            if match[name] is not None:
                return f"${match[name].strip()}$"
        if match["command"]:
            return self._command(match["command"], match[0])
        if match["other"]:
            return self._escape(match["other"])
        if match["ligature"]:
            return LIGATURES[match["ligature"]]
        return " " if match["tie"] else ""

    def _escape(self, char: str) -> str:
        if char in ACCENTS:
            return self._accent(char)
        if char in "-/@":
            return ""
        return char if char in "&%$#_{}" else " " if char in ",;:!> \\\n\t*" else "\\" + char

    def _accent(self, char: str) -> str:
        letter = _Reader(self._argument("m")).text() or " "
        plain = {"\u0131": "i", "\u0237": "j"}.get(letter[0], letter[0])
        return unicodedata.normalize("NFC", plain + ACCENTS[char]) + letter[1:]

    def _command(self, name: str, written: str) -> str:
        if name in ("multicolumn", "multirow") and (spanned := self._span(name)) is not None:
            return spanned
        if name == "begin" and (nested := self._nested()) is not None:
            return nested
        if name in SPACES or name in ("hspace", "hskip"):
            self.skip("sm" if name == "hspace" else "")
            return " "
        if name in SYMBOLS:
            return SYMBOLS[name]
        if name in ACCENTS and len(name) == 1:
            return self._accent(name)
        if name not in COMMANDS:
            return written + self._groups()
        return "".join(self._inner(self._argument(kind)) for kind in COMMANDS[name] if self._kept(kind))

    def _groups(self) -> str:
        """The arguments of an unknown command, as they are written."""
        start = self.place
        while self.source.startswith("{", self.place) and (end := _group_end(self.source, self.place)):
            self.place = end
        return self.source[start : self.place]

    def _kept(self, kind: str) -> bool:
        if kind != "t":
            self._argument(kind)
        return kind == "t"

    def _inner(self, source: str) -> str:
        reader = _Reader(source)
        text = reader.text()
        self.columns *= reader.columns
        self.rows = self.rows if reader.rows == 1 else reader.rows
        return text

    def _span(self, name: str) -> str | None:
        start = self.place
        self.skip("o" if name == "multirow" else "")
        count = self._argument("m").strip()
        if not re.fullmatch(r"-?\d{1,3}", count) or (name == "multicolumn" and int(count) < 1):
            self.place = start
            return None
        self.skip("omo" if name == "multirow" else "m")
        text = self._inner(self._argument("m"))
        if name == "multirow":
            self.rows = int(count) or 1
        else:
            self.columns = int(count)
        return text

    def _nested(self) -> str | None:
        """A table inside a cell is how lines are broken there."""
        begin = _BEGIN.match(self.source, self.source.rfind("\\begin", 0, self.place))
        if begin is None:
            return None
        body, self.place, _ = _environment(self.source, begin)
        return " ".join(self._inner(cell).strip() for row in _rows(body) for cell in row)

    def _argument(self, kind: str) -> str:
        """The next argument, without what encloses it; of one that may be missing, nothing."""
        if kind == "l":
            length = _LENGTH.match(self.source, self.place)
            self.place = length.end() if length else self.place
            return ""
        match = re.compile(r"\s*").match(self.source, self.place)
        start = match.end() if match else self.place
        first = self.source[start : start + 1]
        if kind in "ops":
            pattern = {"o": r"\[[^\[\]]*\]", "p": r"\([^()]*\)", "s": r"\*"}[kind]
            matched = re.compile(pattern).match(self.source, start)
            self.place = matched.end() if matched else self.place
            return ""
        if first == "{":
            end = _group_end(self.source, start)
            self.place = end or len(self.source)
            return self.source[start + 1 : end - 1 if end else None]
        matched = re.compile(r"\\[A-Za-z]+|\\.|.", re.DOTALL).match(self.source, start)
        self.place = matched.end() if matched else start
        return matched[0] if matched else ""
