"""HTML as reports share it: the page around them, escaped text, tables, choices.

Knows no metric.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def document(title: str, body: str, style: str = "", script: str = "") -> str:
    """A whole page in the reports' style, which asks for nothing from outside and runs `script` alone."""
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8") + style
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        policy += f"; script-src 'sha256-{digest}'"
        body += f"\n<script>{script}</script>"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{escaped(title)}</title>
<style>{style}</style></head>
<body>
{body}
</body></html>
"""


def json_text(value: Any) -> str:
    """JSON that may stand in HTML."""
    written = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return written.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def escaped(value: object) -> str:
    """A text that may stand in HTML, also between quotes."""
    return html.escape(str(value)).replace("\0", "\u2400")


def table(head: Iterable[str], rows: Iterable[str], words: int = 1) -> str:
    """Rows that begin with <tr>, below a head whose first `words` columns are words."""
    cells = "".join(
        f"<th{' class=word' if index < words else ''}>{escaped(name)}" for index, name in enumerate(head)
    )
    return f"<div class=wide><table><tr>{cells}{''.join(rows)}</table></div>"


def select(label: str, values: Sequence[str], mark: str, none: str) -> str:
    """A list to choose from; `none` is what its empty value is called, `mark` an attribute."""
    options = "".join(
        f'<option value="{escaped(value)}">{escaped(value) or none}</option>' for value in values
    )
    return f"<label>{escaped(label)}<select {mark}>{options}</select></label>"
