"""LaTeX files read for their formulas: the author's macros expanded, each formula in one canonical spelling.

Knows tokens, definitions and delimiters; whether a formula can be drawn is a renderer's matter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from got_train.errors import DrawingError

DEPTH = 100  # of macros in macros; a deeper one defines itself
LONGEST = 100_000  # tokens read that macros may add to a file, besides twenty times its own
END = "\x01"  # stands behind an expanded body
FIXED = "\x02"  # stands before a command that keeps the meaning it had when \let copied it

TOKEN = re.compile(
    r"(?P<comment>%[^\n]*(?:\n[ \t]*)?)|(?P<break>\s*\n[ \t]*\n\s*)|(?P<space>\s+)"
    r"|(?P<environment>\\(?:begin|end)[ \t]*\{[A-Za-z]+\*?\})|\\[A-Za-z@]+|\\.|[^\\]",
    re.S,
)
VERBATIM = re.compile(
    r"\\begin\{(verbatim|Verbatim|lstlisting|minted|comment)(\*?)\}.*?\\end\{\1\2\}"
    r"|\\verb\*?([^\w\s*]).*?\3|\\end\{document\}.*",
    re.S,
)
ENVIRONMENTS = {  # of display formulas -> what Mathpix writes inside \[ \]
    "equation": "", "displaymath": "", "align": "aligned", "flalign": "aligned", "alignat": "aligned",
    "gather": "gathered", "eqnarray": "array",
}  # fmt: skip
RENAMED = {"split": "aligned", "align": "aligned", "eqnarray": "array"}
DROPPED = {  # without ink of their own; \, and its like only move what stands around them
    r"\nonumber", r"\notag", r"\ensuremath", r"\xspace", r"\protect", r"\relax", r"\,", r"\!", r"\:", r"\;",
    r"\>", r"\/", r"\thinspace", r"\negthinspace", r"\allowbreak", r"\nolimits", r"\leavevmode",
}  # fmt: skip
ONE_ARGUMENT = (
    "sqrt hat bar vec tilde dot ddot check breve acute grave mathring widehat widetilde overline underline "
    "overrightarrow overleftarrow overbrace underbrace mathrm mathbf mathit mathsf mathtt mathcal mathbb "
    "mathfrak mathscr boldsymbol bm operatorname boxed cancel pmod"
)
TWO_ARGUMENTS = "frac dfrac tfrac cfrac binom dbinom tbinom overset underset stackrel"
ARGUMENTS = dict.fromkeys(ONE_ARGUMENT.split(), 1) | dict.fromkeys(TWO_ARGUMENTS.split(), 2)
TEXT = {r"\text", r"\mbox", r"\hbox", r"\textrm", r"\textnormal"}
STYLED_TEXT = {r"\textbf", r"\textit", r"\textsf", r"\texttt", r"\textsl", r"\textup", r"\emph"}


class EndlessError(DrawingError):
    """A file whose macros never end."""


@dataclass(frozen=True)
class Formula:
    """A formula without its delimiters."""

    tex: str
    display: bool


@dataclass(frozen=True)
class Macro:
    """What \\newcommand, \\def and their like define."""

    arguments: int
    default: tuple[str, ...] | None
    body: tuple[str, ...]
    star: tuple[str, ...] | None = None  # the body of the form with a star


def read_formulas(path: Path) -> Iterator[Formula]:
    """The formulas of a .tex file, in order; those with a macro that cannot be expanded keep its name."""
    yield from find_formulas(expand(tokens(_source(path, set())), str(path)))


def tokens(source: str) -> list[str]:
    """Commands, \\begin{...}, single characters, " " and "\\n\\n" for a paragraph's end; no comments."""
    result = []
    for match in TOKEN.finditer(source):
        kind = match.lastgroup
        if kind == "comment":
            continue
        text = {"break": "\n\n", "space": " "}.get(kind or "", match[0])
        result.append(re.sub(r"\s", "", text) if kind == "environment" else text)
    return result


def expand(source: list[str], where: str = "macros") -> list[str]:
    """The tokens without definitions and with every use of what they define replaced."""
    return _Expander(source, where).run()


def find_formulas(stream: list[str]) -> Iterator[Formula]:
    """What stands in $ $, \\( \\), $$ $$, \\[ \\] and the display environments."""
    position = 0
    while position < len(stream):
        opened = _opening(stream, position)
        if opened is None:
            position += 1
            continue
        start, closing, name = opened
        end = _closing(stream, start, closing)
        if end is None:  # a stray dollar; nothing behind it can be trusted to be outside a formula
            position = start
            continue
        body = _body(stream[start:end], name)
        if body:
            yield Formula(body, closing not in (["$"], [r"\)"]))
        position = end + len(closing)


def canonical(stream: list[str]) -> str:
    """One spelling for what looks the same: scripts and arguments in braces, only the spaces TeX needs."""
    return "".join(_spaced(_written(_Reader(_without_labels(stream)))))


def _source(path: Path, seen: set[Path]) -> str:
    """The file with those that it inputs, as far as they are there."""
    seen.add(path.resolve())
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        text = path.read_text(encoding="latin-1")  # what TeX files were written in before UTF-8
    except OSError as error:
        raise DrawingError(f"{path}: cannot be read ({error.strerror}); give .tex files") from None
    text = VERBATIM.sub(" ", text.replace("\r\n", "\n"))

    def inlined(match: re.Match[str]) -> str:
        other = path.parent / match[1].strip()
        other = other if other.suffix == ".tex" else other.with_name(other.name + ".tex")
        return _source(other, seen) if other.is_file() and other.resolve() not in seen else " "

    return re.sub(r"(?<!\\)\\(?:input|include)\s*\{([^{}]+)\}", inlined, text)


class _Expander:
    """TeX's mouth, as far as macros of papers need it: no conditionals, no delimited arguments, no scopes."""

    def __init__(self, source: list[str], where: str) -> None:
        self.stack = source[::-1]
        self.where = where
        self.macros: dict[str, Macro] = {}
        self.depth = 0

    def run(self) -> list[str]:
        out: list[str] = []
        longest, steps = 20 * len(self.stack) + LONGEST, 0
        while (token := self.next()) is not None:
            macro = self.macros.get(token)
            if token in _DEFINITIONS:
                _DEFINITIONS[token](self)
            elif macro is None or self.depth > DEPTH or not self.replace(token, macro):
                out.append(token.removeprefix(FIXED))
            steps += 1
            if steps > longest:
                raise EndlessError(f"{self.where}: its macros expand without end; give the file without them")
        return out

    def next(self) -> str | None:
        while self.stack:
            token = self.stack.pop()
            if token != END:
                return token
            self.depth -= 1
        return None

    def peek(self) -> str | None:
        token = self.next()
        if token is not None:
            self.stack.append(token)
        return token

    def after_spaces(self) -> str | None:
        while self.peek() in (" ", "\n\n"):
            self.next()
        return self.peek()

    def argument(self) -> list[str] | None:
        """The tokens of the next group, without its braces, or the next token."""
        if self.after_spaces() is None:
            return None
        token = self.next()
        if token != "{":
            return None if token == "}" else [token]
        return self.until("{", "}")

    def optional(self) -> list[str] | None:
        if self.after_spaces() != "[":
            return None
        self.next()
        return self.until("[", "]")

    def until(self, opening: str, closing: str) -> list[str] | None:
        result: list[str] = []
        level, braces = 1, 0
        while (token := self.next()) is not None:
            if token == closing and braces == 0:
                level -= 1
                if level == 0:
                    return result
            elif token == opening and braces == 0:
                level += 1
            if opening != "{":
                braces += (token == "{") - (token == "}")
            result.append(token)
        return None

    def starred(self) -> bool:
        star = self.peek() == "*"
        if star:
            self.next()
        return star

    def replace(self, token: str, macro: Macro) -> bool:
        """Put the macro's body in the place of its name and arguments; False leaves the name as it is."""
        body = macro.body
        if macro.star is not None and self.starred():
            body = macro.star
        values: list[list[str]] = []
        if macro.default is not None:
            given = self.optional()
            values.append(list(macro.default) if given is None else given)
        while len(values) < macro.arguments:
            value = self.argument()
            if value is None:
                return False
            values.append(value)
        if not macro.arguments and token[-1].isalpha() and self.stack[-1:] == [" "]:
            self.stack.pop()  # a space behind a command's name is part of it
        self.stack.append(END)
        self.depth += 1
        self.stack += _filled(body, values)[::-1]
        return True

    def define_command(self) -> None:
        self.starred()
        name, count, default, body = self.argument(), self.optional(), self.optional(), self.argument()
        arguments = "".join(count or ["0"]).strip()
        if name and body is not None and arguments.isdecimal():
            self.macros[_name(name)] = Macro(
                int(arguments), None if default is None else tuple(default), tuple(body)
            )

    def provide_command(self) -> None:
        before = dict(self.macros)
        self.define_command()
        self.macros |= before

    def define(self) -> None:
        self.after_spaces()
        name, pattern = self.next(), []
        while self.peek() not in ("{", None):
            pattern.append(self.next())
        body = self.argument()
        count = len(pattern) // 2
        undelimited = pattern == [part for n in range(1, count + 1) for part in ("#", str(n))]
        if name is None or body is None:
            return
        self.macros.pop(name, None)
        if undelimited:
            self.macros[name] = Macro(count, None, tuple(body))

    def let(self) -> None:
        self.after_spaces()
        name = self.next()
        if self.after_spaces() == "=":
            self.next()
            self.after_spaces()
        meaning = self.next()
        if name and meaning:
            self.macros[name] = self.macros.get(meaning, Macro(0, None, (FIXED + meaning,)))

    def define_operator(self) -> None:
        star = ["*"] if self.starred() else []
        name, body = self.argument(), self.argument()
        if name and body is not None:
            self.macros[_name(name)] = Macro(0, None, (r"\operatorname", *star, "{", *body, "}"))

    def define_pair(self) -> None:
        name, left, right = self.argument(), self.argument(), self.argument()
        if name and left and right:
            plain, growing = (*left, "#", "1", *right), (r"\left", *left, "#", "1", r"\right", *right)
            self.macros[_name(name)] = Macro(1, None, plain, growing)

    def define_document_command(self) -> None:
        name, pattern, body = self.argument(), self.argument(), self.argument()
        if name and pattern is not None and body is not None and set(pattern) <= {"m", " "}:
            self.macros[_name(name)] = Macro(pattern.count("m"), None, tuple(body))


_DEFINITIONS = {
    r"\newcommand": _Expander.define_command,
    r"\renewcommand": _Expander.define_command,
    r"\DeclareRobustCommand": _Expander.define_command,
    r"\providecommand": _Expander.provide_command,
    r"\def": _Expander.define,
    r"\gdef": _Expander.define,
    r"\edef": _Expander.define,
    r"\let": _Expander.let,
    r"\DeclareMathOperator": _Expander.define_operator,
    r"\DeclarePairedDelimiter": _Expander.define_pair,
    r"\NewDocumentCommand": _Expander.define_document_command,
    r"\RenewDocumentCommand": _Expander.define_document_command,
}


def _name(argument: list[str]) -> str:
    return "".join(argument).strip()


def _filled(body: tuple[str, ...], values: list[list[str]]) -> list[str]:
    filled: list[str] = []
    position = 0
    while position < len(body):
        if body[position] == "#" and position + 1 < len(body):
            position += 1
            number = body[position]
            if number == "#":
                filled.append("#")
            elif number.isdecimal() and 1 <= int(number) <= len(values):
                filled += values[int(number) - 1]
        else:
            filled.append(body[position])
        position += 1
    return filled


def _opening(stream: list[str], position: int) -> tuple[int, list[str], str] | None:
    """Where the formula that opens here begins, what closes it, and its environment."""
    token = stream[position]
    if token == "$":
        twice = stream[position + 1 : position + 2] == ["$"]
        return (position + 2, ["$", "$"], "") if twice else (position + 1, ["$"], "")
    if token in (r"\(", r"\["):
        return position + 1, [r"\)" if token == r"\(" else r"\]"], ""
    if token.startswith(r"\begin{"):
        name = token[7:-1]
        if name.rstrip("*") in ENVIRONMENTS:
            return position + 1, [rf"\end{{{name}}}"], name.rstrip("*")
        if name == "math":
            return position + 1, [r"\)"], ""
    return None


def _closing(stream: list[str], start: int, closing: list[str]) -> int | None:
    level = 0
    for position in range(start, len(stream)):
        token = stream[position]
        if token == "\n\n" and level == 0:
            return None  # TeX itself allows no empty line in a formula
        if level == 0 and stream[position : position + len(closing)] == closing:
            return position
        level += (token == "{") - (token == "}")
        if level < 0:
            return None
    return None


def _body(stream: list[str], environment: str) -> str:
    if environment == "alignat" and "}" in stream:
        stream = stream[stream.index("}") + 1 :]
    text = canonical(stream).strip().removesuffix(r"\\")
    inner = ENVIRONMENTS.get(environment, "")
    if not text or not inner or (r"\\" not in text and "&" not in text):
        return text
    columns = "{rcl}" if inner == "array" else ""
    return rf"\begin{{{inner}}}{columns}{text}\end{{{inner}}}"


def _without_labels(stream: list[str]) -> list[str]:
    kept: list[str] = []
    reader = _Reader(stream)
    while (token := reader.next()) is not None:
        if token == r"\label":
            reader.group()
        elif token not in DROPPED:
            kept.append(token)
    return kept


class _Reader:
    """Tokens one after another, a group at a time if asked."""

    def __init__(self, stream: list[str]) -> None:
        self.stream, self.place = stream, 0

    def next(self) -> str | None:
        self.place += 1
        return self.stream[self.place - 1] if self.place <= len(self.stream) else None

    def skip_spaces(self) -> str | None:
        while self.place < len(self.stream) and self.stream[self.place] in (" ", "\n\n"):
            self.place += 1
        return self.stream[self.place] if self.place < len(self.stream) else None

    def group(self, opening: str = "{", closing: str = "}") -> list[str] | None:
        """What stands in the braces that open here; None, and nothing read, if none do."""
        if self.skip_spaces() != opening:
            return None
        level = 0
        for position in range(self.place, len(self.stream)):
            level += (self.stream[position] == opening) - (self.stream[position] == closing)
            if level == 0:
                inside = self.stream[self.place + 1 : position]
                self.place = position + 1
                return inside
        return None


def _written(reader: _Reader) -> list[str]:
    out: list[str] = []
    while (token := reader.next()) is not None:
        if token in (" ", "\n\n"):
            continue
        if token in ("^", "_"):
            out += [token, *_braced(reader)]
        elif token == r"\ce":
            out += [token, "{", "".join(reader.group() or []), "}"]
        elif token in TEXT or token in STYLED_TEXT:
            out += _text(r"\text" if token in TEXT else token, reader)
        elif token[:1] == "\\" and token[1:] in ARGUMENTS:
            out += _command(token, reader)
        elif token == r"\\":
            out.append(token)
            _skip_row_space(reader)
        elif token.startswith((r"\begin{", r"\end{")):
            out += _environment(token)
        else:
            out.append(token)
    return out


def _command(token: str, reader: _Reader) -> list[str]:
    out = [token]
    if token == r"\operatorname" and reader.skip_spaces() == "*":
        out.append(str(reader.next()))
    if token == r"\sqrt" and (root := reader.group("[", "]")) is not None:
        out += ["[", *_written(_Reader(root)), "]"]
    for _ in range(ARGUMENTS[token[1:]]):
        out += _braced(reader)
    return out


def _braced(reader: _Reader) -> list[str]:
    """The next argument in braces."""
    inside = reader.group()
    if inside is not None:
        return ["{", *_written(_Reader(inside)), "}"]
    token = reader.skip_spaces()
    if token is None or token in ("}", "&", r"\\"):
        return []  # wrong TeX stays wrong
    reader.next()
    if token[:1] == "\\" and token[1:] in ARGUMENTS:
        return ["{", *_command(token, reader), "}"]
    if token in TEXT | STYLED_TEXT:
        return ["{", *_text(r"\text" if token in TEXT else token, reader), "}"]
    follows = reader.skip_spaces() == "{"
    return [token] if token[:1] == "\\" and follows else ["{", token, "}"]


def _text(command: str, reader: _Reader) -> list[str]:
    r"""Text keeps its spaces; formulas in it ("\text{if $x$}") come out of it ("\text{if }x")."""
    inside = reader.group()
    if inside is None:
        return [command]
    out: list[str] = []
    for number, part in enumerate(_split(inside, "$")):
        if number % 2:
            out += _written(_Reader(part))
        elif part:
            out += [
                command,
                "{",
                "".join(_spaced([" " if token == "\n\n" else token for token in part])),
                "}",
            ]
    return out


def _split(stream: list[str], mark: str) -> list[list[str]]:
    parts: list[list[str]] = [[]]
    for token in stream:
        if token == mark:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


def _skip_row_space(reader: _Reader) -> None:
    if reader.skip_spaces() == "*":
        reader.next()
    before = reader.place
    inside = reader.group("[", "]")
    if inside is not None and not re.fullmatch(r"\s*-?[\d.]+\s*[a-z]{2}\s*", "".join(inside)):
        reader.place = before


def _environment(token: str) -> list[str]:
    kind, name = token[1:-1].split("{")
    new = RENAMED.get(name.rstrip("*"), name)
    columns = ["{", "r", "c", "l", "}"] if kind == "begin" and name.startswith("eqnarray") else []
    return [f"\\{kind}{{{new}}}", *columns]


def _spaced(pieces: list[str]) -> list[str]:
    """A space where a command's name would else run into the letter behind it."""
    out: list[str] = []
    for piece in pieces:
        if out and re.search(r"\\[A-Za-z@]+$", out[-1]) and re.match("[A-Za-z@]", piece):
            out.append(" ")
        out.append(piece)
    return out
