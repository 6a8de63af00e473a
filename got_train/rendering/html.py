"""One self-contained HTML page for what the model read: headings, lists, simple tables, the rest as source.

No renderer of formulas, scores, drawings or molecules is built in yet: these stand as marked source, and the
page says so. The text as the model gave it, character for character, is at the end of every page.
"""

import html
import re

MISSING = {
    "kern": "musical scores (**kern)",
    "tikz": "drawings (tikzpicture)",
    "math": "formulas",
    "table": "tables with more than rows, columns and spans",
    "smiles": "molecules (SMILES)",
    "chart": "charts",
}
PAGE = """<!DOCTYPE html>
<html lang="und"><head><meta charset="utf-8"><title>OCR result</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<style>
body {{ max-width: 50em; margin: 2em auto; padding: 0 1em; font: 16px/1.5 serif; }}
pre {{ white-space: pre-wrap; overflow-wrap: anywhere; }}
.source {{ background: #f3f3ee; border-left: 3px solid #999; padding: .5em; font-family: monospace; }}
span.source {{ padding: 0 .2em; border: 0; }}
table {{ border-collapse: collapse; }} td {{ border: 1px solid #999; padding: .2em .5em; }}
</style></head><body>
{notes}{body}
<details><summary>The text as it was read</summary>
<pre>
{source}</pre></details>
</body></html>
"""
BLOCKS = re.compile(
    r"\\begin\{tabular\}(?P<table>.*?)\\end\{tabular\}|\\begin\{(?P<list>itemize|enumerate)\}(?P<items>.*?)"
    r"\\end\{(?P=list)\}|\\\[(?P<math>.*?)\\\]|\\title\{(?P<title>[^{}]*)\}"
    r"|\\(?P<section>(?:sub)*section)\*?\{(?P<name>[^{}]*)\}|^(?P<marks>#{1,6}) (?P<heading>[^\n]*)$",
    re.DOTALL | re.MULTILINE,
)
INLINE = re.compile(r"(?P<math>\\\(.*?\\\))|(?P<smiles><smiles>.*?</smiles>)", re.DOTALL)
RULES = re.compile(r"\\(?:hline|toprule|midrule|bottomrule)\b")
COLUMNS = re.compile(r"\{([lcr|\s]+)\}")
STRANGE = re.compile(r"\\(?:multi|cline|cmidrule)")


def render(text: str, ocr_type: str) -> str:
    """The page for an answer; ocr_type is "ocr" (shown as it is) or "format"."""
    missing: set[str] = set()
    if "**kern" in text:  # the order of these decisions is the original's
        body = _source(text, "kern", missing)
    elif ocr_type != "format":
        body = f"<pre>\n{_escaped(text)}</pre>"
    elif "\\begin{tikzpicture}" in text:
        body = _source(text, "tikz", missing)
    elif re.match(r"\s*\{\s*['\"]", text) and text.rstrip().endswith("}"):
        body = _source(text, "chart", missing)
    else:
        body = _formatted(text, missing)
    notes = "".join(
        f'<p class="source">Shown as source, for no renderer is built in: {MISSING[kind]}.</p>\n'
        for kind in MISSING
        if kind in missing
    )
    return PAGE.format(notes=notes, body=body, source=_escaped(text))


def _formatted(text: str, missing: set[str]) -> str:
    parts, end = [], 0
    for match in BLOCKS.finditer(text):
        parts += [_paragraphs(text[end : match.start()], missing), _block(match, missing)]
        end = match.end()
    return "\n".join([*parts, _paragraphs(text[end:], missing)])


def _block(match: re.Match, missing: set[str]) -> str:
    found = match.groupdict()
    if found["title"] is not None:
        return f"<h1>{_inline(found['title'].strip(), missing)}</h1>"
    if found["section"]:
        level = min(2 + found["section"].count("sub"), 6)
        return f"<h{level}>{_inline(found['name'].strip(), missing)}</h{level}>"
    if found["marks"]:
        level = len(found["marks"])
        return f"<h{level}>{_inline(found['heading'], missing)}</h{level}>"
    if found["list"]:
        before, *items = re.split(r"\\item\b", found["items"])
        if before.strip() or not items or "\\begin" in found["items"]:
            return _paragraphs(match[0], missing)
        tag = {"itemize": "ul", "enumerate": "ol"}[found["list"]]
        points = "".join(f"<li>{_inline(item.strip(), missing)}</li>\n" for item in items)
        return f"<{tag}>\n{points}</{tag}>"
    if found["math"] is not None:
        return _source(match[0], "math", missing)
    return _table(found["table"], missing) or _source(match[0], "table", missing)


def _table(inner: str, missing: set[str]) -> str | None:
    """Rows and columns with spans; None if there is anything else, or text below a cell that spans rows."""
    columns = COLUMNS.match(inner)
    if columns is None or "\\begin" in inner:
        return None
    rows = RULES.sub("", inner[columns.end() :]).split("\\\\")
    lines, below = [], {}  # column -> rows that a cell above still covers
    for row in rows if rows[-1].strip() else rows[:-1]:
        cells, column = "", 0
        for cell in re.split(r"(?<!\\)&", row):
            across, text = _span("column", cell.strip())
            down, text = _span("row", text)
            covered = below.get(column, 0)
            if STRANGE.search(text) or (covered and text):
                return None
            if not covered:
                spans = f' colspan="{across}"' * (across > 1) + f' rowspan="{down}"' * (down > 1)
                cells += f"<td{spans}>{_inline(text, missing)}</td>"
            for place in range(column, column + across):
                below[place] = (covered or down) - 1
            column += across
        lines.append(f"<tr>{cells}</tr>\n")
        if column > len(re.findall("[lcr]", columns[1])):
            return None
    return None if any(below.values()) else f"<table>\n{''.join(lines)}</table>"


def _span(kind: str, text: str) -> tuple[int, str]:
    """Columns or rows that a cell spans, and what it says."""
    found = re.fullmatch(rf"\\multi{kind}{{([1-9]\d?)}}{{[^{{}}]*}}{{(.*)}}", text, re.DOTALL)
    return (int(found[1]), found[2].strip()) if found else (1, text)


def _paragraphs(text: str, missing: set[str]) -> str:
    kept = [part for part in re.split(r"\n\s*\n", text) if part.strip()]
    return "\n".join(f"<p>{_inline(part.strip(), missing)}</p>" for part in kept)


def _inline(text: str, missing: set[str]) -> str:
    parts, end = [], 0
    for match in INLINE.finditer(text):
        missing.add(match.lastgroup)
        code = f'<span class="source">{_escaped(match[0])}</span>'
        parts += [_escaped(text[end : match.start()]), code]
        end = match.end()
    return "".join([*parts, _escaped(text[end:])]).replace("\n", "<br>\n")


def _source(text: str, kind: str, missing: set[str]) -> str:
    missing.add(kind)
    return f'<pre class="source">\n{_escaped(text)}</pre>'


def _escaped(text: str) -> str:
    """Text as HTML; U+0000, which HTML cannot hold, is shown by its symbol, and a CR stays one."""
    return html.escape(text).replace("\0", "\u2400").replace("\r", "&#13;")
