r"""The tokens of a formula as KaTeX understands it, so that x^2 and x^{2} are the same.

Needs quickjs and KaTeX's one file; written after im2markup's preprocess_formula.js for today's parse trees.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from got_train.errors import AnswerError

from . import node_packages

Node = dict[str, Any]

PLACES = (  # where katex.min.js is looked for
    Path(__file__).parent / "katex.min.js",
    Path(__file__).parents[2] / "data_tools/node/node_modules/katex/dist/katex.min.js",
    node_packages.folder() / "node_modules/katex/dist/katex.min.js",
)
SECONDS = 5  # for one formula; a millisecond is usual
MEMORY = 256 * 2**20  # bytes
_PARSE = """
function parse(source) {
  const tree = katex.__parse(source, {displayMode: true, strict: false, trust: false, maxExpand: 1000});
  return JSON.stringify(tree, (key, value) => key === "loc" ? undefined : value);
}
"""
_ALIGNED = re.compile(
    r"\\begin\s*\{(split|align|alignedat|alignat|eqnarray|flalign)(\*?)\}(.+?)\\end\s*\{\1\2\}", re.S
)
_GATHERED = re.compile(r"\\begin\s*\{(gather|multline)(\*?)\}(.+?)\\end\s*\{\1\2\}", re.S)
_EQUATION = re.compile(
    r"\\(?:begin|end)\s*\{(?:equation|displaymath|math)\*?\}|\\(?:label|ref|eqref)\s*\{[^{}]*\}"
)
_DELIMITERS = re.compile(r"(?<!\\)\\[\[\]()]|(?<!\\)\$")
_FUNCTIONS = """
arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf injlim ker lg lim liminf limsup ln log
max min Pr projlim sec sin sinh sup tan
"""
# a name in letters is the command of that name; for these, by a slip of the original not for arccos and tanh
_NAMED = re.compile(rf"\\operatorname \{{ ({'|'.join(' '.join(name) for name in _FUNCTIONS.split())}) \}}")
_KERNS = {"3mu": "\\,", "4mu": "\\:", "5mu": "\\;", "-3mu": "\\!", "1em": "\\quad", "2em": "\\qquad"}
_SIZE_NAMES = "tiny sixptsize scriptsize footnotesize small normalsize large Large LARGE huge Huge"
_SIZES = _SIZE_NAMES.split()
_BIG = ("", "big", "Big", "bigg", "Bigg")
_SIDES = {"mopen": "l", "mclose": "r", "mrel": "m"}


def unavailable() -> str | None:
    """Why KaTeX cannot be asked; None if it can."""
    try:
        import quickjs  # noqa: F401
    except ImportError:
        return 'quickjs is not installed; use `pip install -e ".[formulas]"` in the clone'
    if not any(folder.is_file() for folder in PLACES):
        return f"katex.min.js is not there; `{node_packages.COMMAND}` or `make data-tools` installs it"
    return None


def tokens(formula: str) -> list[str]:
    """The formula's tokens in one way of writing; what KaTeX refuses raises AnswerError."""
    source = _prepared(formula)
    if not source.strip():
        return []
    text = " ".join(_expression(json.loads(function(_PARSE, "parse")(source)))).replace(
        "\\\\ \\end{array}", "\\end{array}"
    )
    return _NAMED.sub(lambda match: "\\" + match[1].replace(" ", ""), text).split()


def _prepared(formula: str) -> str:
    """Without delimiters, labels and lines; environments that only number or split become plain ones."""
    formula = _DELIMITERS.sub(" ", formula)
    formula = _ALIGNED.sub(r"\\begin{aligned}\3\\end{aligned}", _EQUATION.sub("", formula))
    formula = _GATHERED.sub(r"\\begin{gathered}\3\\end{gathered}", formula).replace("smallmatrix", "matrix")
    formula = re.sub(r"(?<!\\)%[^\n]*\n?", "", formula)
    if "\\begin" not in formula:
        formula = formula.replace("\\\\", "\\,")
    return formula.replace("\n", " ")


def function(code: str, name: str) -> Callable[..., str]:
    """A function in JavaScript that has KaTeX; what it refuses or takes too long for raises AnswerError."""
    import quickjs

    call = _function(code, name)

    def ask(source: str, *options: bool) -> str:
        if re.search("[\0\ud800-\udfff]", source):  # half a character ends quickjs, and a zero the text
            raise AnswerError("characters that no text has")
        try:
            return call(source, *options)
        except quickjs.JSException as error:
            raise AnswerError(str(error).splitlines()[0].removeprefix("ParseError: ")) from None

    return ask


@cache
def _function(code: str, name: str) -> Callable[..., str]:
    import quickjs

    reason = unavailable()
    if reason:
        raise AnswerError(reason)
    context = quickjs.Context()
    context.set_memory_limit(MEMORY)
    context.set_time_limit(SECONDS)
    context.eval(next(folder for folder in PLACES if folder.is_file()).read_text("utf-8"))
    context.eval(code)
    return context.get(name)


def _expression(nodes: list[Node]) -> Iterator[str]:
    for node in nodes:
        yield from _group(node)


def _group(node: Node | None) -> Iterator[str]:
    if node is None:
        return
    write = _WRITERS.get(node["type"])
    if write is None:
        raise AnswerError(f"a part of the type {node['type']}, which has no tokens here")
    yield from write(node)


def _body(node: Node, key: str = "body") -> list[Node]:
    """The parts of a node that holds either one or many."""
    body = node.get(key)
    return body if isinstance(body, list) else [] if body is None else [body]


def _braced(node: Node | None) -> Iterator[str]:
    """In braces, but not in two pairs."""
    if node is not None and node["type"] == "ordgroup":
        yield from _group(node)
    else:
        yield from ("{", *_group(node), "}")


def _symbol(node: Node) -> Iterator[str]:
    yield node["text"]


def _ordgroup(node: Node) -> Iterator[str]:
    yield from ("{", *_expression(node["body"]), "}")


def _text(node: Node) -> Iterator[str]:
    yield from ("\\mathrm", "{", *_expression(node["body"]), "}")


def _spacing(node: Node) -> Iterator[str]:
    yield "~" if node["text"] in (" ", "~", "\\ ") and node["mode"] == "text" else node["text"].strip() or "~"


def _kern(node: Node) -> Iterator[str]:
    size = f"{node['dimension']['number']:g}{node['dimension']['unit']}"
    yield _KERNS.get(size, f"\\hspace{{{size}}}")


def _supsub(node: Node) -> Iterator[str]:
    yield from _group(node.get("base"))
    for key, mark in (("sub", "_"), ("sup", "^")):
        if node.get(key) is not None:
            yield from (mark, *_braced(node[key]))


def _fraction(node: Node) -> Iterator[str]:
    yield "\\frac" if node["hasBarLine"] else "\\binom"
    yield from (*_braced(node["numer"]), *_braced(node["denom"]))


def _array(node: Node) -> Iterator[str]:
    columns = [column["align"] for column in node.get("cols") or [] if column.get("align")]
    yield from ("\\begin{array}", "{", *(columns or ["l"] * len(node["body"][0])), "}")
    for row in node["body"]:
        cells = [_cell(cell) for cell in row]
        if any(cell["body"] for cell in cells):
            for index, cell in enumerate(cells):
                yield from (*(["&"] if index else []), *_group(cell))
            yield "\\\\"
    yield "\\end{array}"


def _cell(node: Node) -> Node:
    while node["type"] == "styling" and len(node["body"]) == 1:
        node = node["body"][0]
    return node if node["type"] == "ordgroup" else {"type": "ordgroup", "body": [node]}


def _sqrt(node: Node) -> Iterator[str]:
    index = ("[", *_expression(_body(node["index"])), "]") if node.get("index") else ()
    yield from ("\\sqrt", *index, *_braced(node["body"]))


def _leftright(node: Node) -> Iterator[str]:
    yield from ("\\left" + node["left"], *_expression(node["body"]), "\\right" + node["right"])


def _operator(node: Node) -> Iterator[str]:
    if node.get("symbol"):
        yield node["name"]
    elif node.get("body") is not None:
        yield from ("\\mathop", "{", *_expression(_body(node)), "}")
    else:
        yield from (
            "\\operatorname*" if node.get("limits") else "\\operatorname",
            "{",
            *node["name"][1:],
            "}",
        )


def _operatorname(node: Node) -> Iterator[str]:
    name = "\\operatorname*" if node.get("alwaysHandleSupSub") else "\\operatorname"
    yield from (name, "{", *_expression(node["body"]), "}")


def _font(node: Node) -> Iterator[str]:
    font = "mathrm" if node["font"] in ("mbox", "hbox", "textrm") else node["font"]
    yield from ("\\" + font, *_braced(node["body"]))


def _big(node: Node) -> Iterator[str]:
    yield from ("\\" + _BIG[node["size"]] + _SIDES.get(node["mclass"], ""), node["delim"])


def _named(name: str | None = None, key: str = "label") -> Callable[[Node], Iterator[str]]:
    """A command with one argument, whose name is fixed or in the node."""

    def write(node: Node) -> Iterator[str]:
        body = _body(node) or _body(node, "base")
        yield name or node[key]
        yield from _braced(body[0]) if len(body) == 1 else ("{", *_expression(body), "}")

    return write


def _line(name: str) -> Callable[[Node], Iterator[str]]:
    def write(node: Node) -> Iterator[str]:
        yield from (name, "{", *_group(node["body"]), "}")

    return write


def _only_body(node: Node) -> Iterator[str]:
    """What is inside; the node itself only says how it looks."""
    yield from _expression(_body(node))


def _tag(node: Node) -> Iterator[str]:
    inner = [token for token in _expression(node["tag"]) if token not in ("\\mathrm", "{", "}")]
    inner = inner[1:-1] if inner[:1] == ["("] and inner[-1:] == [")"] else inner
    yield from (*_expression(node["body"]), "\\tag", "{", *inner, "}")


def _arrow(node: Node) -> Iterator[str]:
    below = ("[", *_expression(_body(node["below"])), "]") if node.get("below") else ()
    yield from (node["label"], *below, *_braced(node["body"]))


_WRITERS: dict[str, Callable[[Node], Iterator[str]]] = {
    **dict.fromkeys(("mathord", "textord", "atom", "accent-token", "op-token"), _symbol),
    **dict.fromkeys(("color", "raisebox", "vcenter", "html", "href", "hbox", "mclass"), _only_body),
    "styling": lambda node: iter((f"\\{node['style']}style", *_expression(node["body"]))),
    "sizing": lambda node: iter((f"\\{_SIZES[node['size'] - 1]}", *_expression(node["body"]))),
    "htmlmathml": lambda node: _expression(node["mathml"]),
    "mathchoice": lambda node: _expression(node["display"]),
    "ordgroup": _ordgroup,
    "text": _text,
    "spacing": _spacing,
    "kern": _kern,
    "supsub": _supsub,
    "genfrac": _fraction,
    "array": _array,
    "sqrt": _sqrt,
    "leftright": _leftright,
    "middle": lambda node: iter(("\\middle", node["delim"])),
    "op": _operator,
    "operatorname": _operatorname,
    "font": _font,
    "delimsizing": _big,
    "accent": _named(),
    "accentUnder": _named(),
    "horizBrace": _named(),
    "enclose": _named(),
    "overline": _line("\\overline"),
    "underline": _line("\\underline"),
    "phantom": _named("\\phantom"),
    "vphantom": _named("\\vphantom"),
    "hphantom": _named("\\hphantom"),
    "smash": _named("\\smash"),
    "lap": lambda node: _named("\\" + node["alignment"])(node),
    "pmb": _named("\\pmb"),
    "tag": _tag,
    "xArrow": _arrow,
    "rule": lambda node: iter(("\\rule",)),
    "verb": lambda node: iter(("\\verb", *node["body"])),
    "url": lambda node: iter(("\\url", *node["url"])),
    "cr": lambda node: iter(("\\\\",)),
    "internal": lambda node: iter(()),
}
