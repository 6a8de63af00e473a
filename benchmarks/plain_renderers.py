"""The renderers alone on the answers of made records: what drawing costs without checks, looks or records.

Knows answers and pictures' sizes; benchmarks/data_engines.py sets its rates beside those of the engines.
"""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_tools.drawing import renderers, system_fonts

DPI = 155  # the middle of what tables and geometry draw with
RUN = 250  # pictures in a LaTeX run, as in the engines
WIDE = 900  # pixels of a markdown page
STANDALONE = r"\documentclass[10pt,multi=page,border=6pt]{standalone}\newenvironment{page}{}{}"
TABLES = r"\usepackage{array,multirow,booktabs}"

Row = dict[str, Any]


def size_of(row: Row) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(row["images"][0]["bytes"])) as image:
        return image.size


def molecules(rows: list[Row]) -> None:
    """rdkit: the SMILES to a PNG of the same size."""
    from rdkit import Chem
    from rdkit.Chem.Draw import rdMolDraw2D

    for row in rows:
        molecule = Chem.MolFromSmiles(row["text"].removeprefix("<smiles>").removesuffix("</smiles>"))
        drawer = rdMolDraw2D.MolDraw2DCairo(*size_of(row))
        drawer.DrawMolecule(molecule)
        drawer.FinishDrawing()
        drawer.GetDrawingText()


def tables(rows: list[Row]) -> None:
    """pdflatex and xelatex with the standalone class, and pdfium."""
    font = next(iter(system_fonts.chinese_fonts("all")), None)
    chinese = rf"\usepackage{{xeCJK}}\setCJKmainfont[Path={font.parent}/]{{{font.name}}}" if font else ""
    texts = [row["text"] for row in rows]
    lmodern = r"\usepackage[T1]{fontenc}\usepackage{lmodern,textcomp}"
    _latex([text for text in texts if text.isascii()], "pdflatex", lmodern + TABLES)
    _latex([text for text in texts if not text.isascii()], "xelatex", chinese + TABLES)


def geometry(rows: list[Row]) -> None:
    """pdflatex with the standalone class, and pdfium."""
    _latex([row["text"] for row in rows], "pdflatex", r"\usepackage{tikz}")


def _latex(texts: list[str], program: str, packages: str) -> None:
    import pypdfium2

    for first in range(0, len(texts), RUN):
        pages = "\n".join(rf"\begin{{page}}{text}\end{{page}}" for text in texts[first : first + RUN])
        source = rf"{STANDALONE}{packages}\begin{{document}}{pages}\end{{document}}"
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "main.tex").write_text(source, encoding="utf-8")
            command = [renderers.find_program(program), "-interaction=batchmode", "main.tex"]
            subprocess.run(command, cwd=folder, stdout=subprocess.DEVNULL, check=True)
            with pypdfium2.PdfDocument(Path(folder) / "main.pdf") as document:
                for page in document:
                    page.render(scale=DPI / 72).to_pil()


def charts(rows: list[Row]) -> None:
    """matplotlib: the values as labelled bars under a title, to a PNG of the same size."""
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["font.sans-serif"] = ["Noto Sans CJK SC", "WenQuanYi Micro Hei", "DejaVu Sans"]
    from matplotlib import pyplot

    for row in rows:
        chart = json.loads(row["text"])
        width, height = size_of(row)
        figure, axes = pyplot.subplots(figsize=(width / 100, height / 100), dpi=100, layout="constrained")
        series = [each if isinstance(each, dict) else {"": each} for each in chart["values"].values()]
        numbers = [float(value.rstrip("%")) for each in series for value in each.values()]
        axes.bar_label(axes.bar(range(len(numbers)), numbers))
        axes.set(title=chart["title"], xlabel=chart["x_title"], ylabel=chart["y_title"])
        axes.set_xticks(range(len(series)), list(chart["values"]))
        figure.savefig(io.BytesIO(), format="png", pil_kwargs={"compress_level": 1})
        pyplot.close(figure)


def music(rows: list[Row]) -> None:
    """verovio and resvg, as many pixels as verovio gives."""
    import resvg_py
    import verovio

    verovio.enableLog(verovio.LOG_OFF)
    toolkit = verovio.toolkit()
    for row in rows:
        toolkit.setOptions({"adjustPageWidth": True, "adjustPageHeight": True, "breaks": "none"})
        toolkit.loadData(row["text"])
        svg = toolkit.renderToSVG(1)
        resvg_py.svg_to_bytes(svg_string=svg, background="white", skip_system_fonts=True)


MARKDOWN = """
const fs = require('fs')
const { MathpixMarkdownModel } = require('mathpix-markdown-it')
import('puppeteer-core').then(async ({ default: puppeteer }) => {
  const { chromium, texts, width } = JSON.parse(fs.readFileSync(0))
  const args = ['--no-sandbox', '--disable-gpu', '--host-resolver-rules=MAP * 0.0.0.0']
  const browser = await puppeteer.launch({ executablePath: chromium, args, headless: true })
  const page = await browser.newPage()
  const style = MathpixMarkdownModel.getMathpixStyle(true).replace(/@import[^;]*;/g, '')
  await page.setViewport({ width, height: 1200 })
  for (const text of texts) {
    const html = MathpixMarkdownModel.markdownToHTML(text, { outMath: { include_svg: true } })
    await page.setContent(`<style>${style}</style><div id="preview-content">${html}</div>`)
    await page.screenshot({ type: 'png', fullPage: true, optimizeForSpeed: true })
  }
  await browser.close()
})
"""


def markdown(rows: list[Row]) -> None:
    """mathpix-markdown-it and chromium's picture of the whole page, in the fonts that it finds."""
    asked = {"chromium": renderers.find_program("chromium"), "texts": [row["text"] for row in rows]}
    command = [renderers.find_program("node"), "-e", MARKDOWN]
    subprocess.run(
        command, input=json.dumps(asked | {"width": WIDE}), cwd=renderers.NODE_FOLDER, text=True, check=True
    )


PLAIN: dict[str, Callable[[list[Row]], None]] = {
    "molecules": molecules, "tables": tables, "geometry": geometry, "charts": charts, "music": music,
    "markdown": markdown,
}  # fmt: skip
