"""LaTeX tables as HTML by LaTeXML, as OmniDocBench 1.6 converts them, where it is installed."""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from pathlib import Path

from got_train.formats.subprocesses import run

SECONDS = 60.0  # for one table, as the official code allows
_PACKAGES = (
    *("subcaption", "url", "graphicx", "caption", "multirow", "booktabs", "color", "colortbl"),
    *("xcolor,soul,framed", "fontspec", "amsmath,amssymb,mathtools,bm,mathrsfs,textcomp"),
)
_TABLE = re.compile(r"<table\b[^>]*>(.*)</table>", re.DOTALL | re.IGNORECASE)


def is_installed() -> bool:
    return _program() is not None


@functools.cache
def _program() -> str | None:
    return shutil.which("latexmlc")


def to_html(table: str) -> str:
    """The tables of a piece of LaTeX; nothing if LaTeXML fails or its time is over."""
    packages = "\n".join(f"\\usepackage{{{name}}}" for name in _PACKAGES)
    document = (
        f"\\documentclass[border=20pt]{{article}}\n{packages}\n\\setlength{{\\parindent}}{{0pt}}\n"
        f"\\begin{{document}}\n{table}\n\\end{{document}}\n"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "table.tex").write_text(document, encoding="utf-8")
        command = [str(_program()), "--quiet", "--nocomments", "--log=table.log", "table.tex"]
        ended = run([*command, "--dest=table.html"], seconds=SECONDS, folder=folder)
        page = folder / "table.html"
        if ended.code != 0 or not page.is_file():
            return ""
        html = page.read_text(encoding="utf-8", errors="replace")
    return "\n".join(f"<table>{inner}</table>" for inner in _TABLE.findall(html))
