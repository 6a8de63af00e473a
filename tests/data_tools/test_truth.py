"""Independent readers agree with the engines: Tesseract, rdkit, verovio, MathJax, LaTeX, json, pdfium.

GOT_TRUTH=100 sets how many records each of them reads (20); GOT_MEASURED=FILE collects the error rates.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from data_tools import produce
from data_tools.build import missing
from data_tools.drawing import renderers
from data_tools.engines import pages

pytestmark = pytest.mark.slow
COUNT = int(os.environ.get("GOT_TRUTH", "20"))
MOST_ERRORS = 0.02  # of all characters
SAME = str.maketrans("\u2018\u2019\u201c\u201d\u2010\u2011\u2012\u2013\u2014\u2022", "''\"\"-----*")


@pytest.fixture
def rows(tmp_path):
    """A function: the rows that an engine's command makes; skipped where a program of it is missing."""
    from importlib import import_module

    from pyarrow import parquet

    def rows(engine, *words, count=COUNT):
        module = import_module(f"data_tools.engines.{engine}")
        out = tmp_path / engine
        fixed = [f"--out={out}", f"--count={count}", "--seed=20", "--num-workers=1"]
        try:
            module.make(module.parser().parse_args([*fixed, *words]))
        except (renderers.RendererError, ModuleNotFoundError) as error:
            pytest.skip(missing(error))
        found = [
            row for path in sorted(out.glob("*.parquet")) for row in parquet.read_table(path).to_pylist()
        ]
        assert len(found) >= count
        return found

    return rows


def plain(text):
    return " ".join(unicodedata.normalize("NFKC", text).translate(SAME).split())


def read_by_tesseract(data, *options):
    """As many pictures at once as there are cores, each on one."""

    def read(picture):
        grey = io.BytesIO()
        Image.open(io.BytesIO(picture)).convert("L").save(grey, "PNG")
        done = subprocess.run(
            ["tesseract", "-", "-", "-l", "eng", *options],
            input=grey.getvalue(),
            capture_output=True,
            check=True,
            env=os.environ | {"OMP_THREAD_LIMIT": "1"},
        )
        return done.stdout.decode()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(read, data))


def error_rate(pairs):
    """Edits over characters, of all together."""
    from rapidfuzz.distance import Levenshtein

    pairs = [(plain(read), plain(truth)) for read, truth in pairs]
    return sum(Levenshtein.distance(*pair) for pair in pairs) / sum(len(truth) for _, truth in pairs)


needs_tesseract = pytest.mark.skipif(not shutil.which("tesseract"), reason="needs tesseract")


@needs_tesseract
@pytest.mark.parametrize(
    ("engine", "words", "options"),
    [
        (
            "pages",
            "--columns=1-2 --font-size=9-12 --image=png --dpi=200 --width=1654 --height=2339",
            "--psm 3 --dpi 200",
        ),
        (
            "lines",
            "--width=900 --height=360 --font-size=22-32 --characters=10-40 --lines=1-6",
            "--psm 6 --dpi 150",
        ),
    ],
)
def test_tesseract_reads_less_than_2_percent_of_the_characters_otherwise(
    rows, within, engine, words, options
):
    made = rows(engine, *words.split())
    read = read_by_tesseract([row["images"][0]["bytes"] for row in made], *options.split())
    pairs = list(zip(read, [row["text"] for row in made], strict=True))
    within(
        f"characters of {len(pairs)} {engine} that tesseract reads otherwise", error_rate(pairs), MOST_ERRORS
    )


def test_rdkit_reads_every_smiles_as_the_molecule_that_has_as_many_atoms(rows):
    chem = pytest.importorskip("rdkit.Chem")
    for row in rows("molecules"):
        smiles = re.fullmatch("<smiles>(.*)</smiles>", row["text"])[1]
        molecule = chem.MolFromSmiles(smiles)
        assert molecule is not None, smiles
        # atoms by the letters of the text: two-letter symbols first, hydrogens inside brackets do not count
        symbols = re.findall(r"\[[^\]]*\]|Br|Cl|[BCNOPSFIbcnops]", smiles)
        assert molecule.GetNumAtoms() == len(symbols)


VEROVIO = """
import json, re, sys
import verovio
verovio.enableLog(verovio.LOG_OFF)
for text in json.load(sys.stdin):
    toolkit = verovio.toolkit()
    loaded = toolkit.loadData(text)
    drawn = toolkit.renderToSVG(1) if loaded else ""
    print(json.dumps([bool(loaded), toolkit.getPageCount(), len(re.findall('class="note"', drawn))]))
"""


def test_verovio_reads_every_kern_and_draws_a_head_for_every_note(rows):
    pytest.importorskip("verovio")
    texts = [row["text"] for row in rows("music")]
    done = subprocess.run(
        [sys.executable, "-c", VEROVIO], input=json.dumps(texts), capture_output=True, text=True, check=True
    )
    answers = list(map(json.loads, done.stdout.splitlines()))
    assert len(answers) == len(texts)
    for text, (loaded, _, heads) in zip(texts, answers, strict=True):
        data = [line for line in text.splitlines() if line[:1] not in "*!="]
        notes = [part for line in data for token in line.split("\t") for part in token.split(" ")]
        assert loaded and heads == sum(bool(re.search("[a-gA-G]", part)) for part in notes), text


MATHJAX = """
const MathJax = require(process.argv[2] + '/es5/node-main.js')
const formulas = JSON.parse(require('fs').readFileSync(0))
const packages = { '[-]': ['bussproofs', 'noerrors', 'noundefined'] }
MathJax.init({ loader: { load: ['input/tex-full'] }, tex: { packages } }).then((math) => {
  console.log(JSON.stringify(formulas.map(([tex, display]) => math.tex2mml(tex, { display }))))
})
"""


@pytest.mark.parametrize("renderer", ["mathjax", "latex"])
def test_mathjax_by_its_own_front_reads_every_formula(rows, tmp_path, renderer):
    found = [
        re.fullmatch(r"\\\((.*)\\\)|\\\[(.*)\\\]", row["text"].strip(), re.DOTALL)
        for row in rows("formulas", f"--renderer={renderer}")
    ]
    formulas = [(each[1] or each[2], each[1] is None) for each in found]
    script = tmp_path / "read.cjs"
    script.write_text(MATHJAX)
    done = subprocess.run(
        [renderers.find_program("node"), str(script), str(renderers.find_package("mathjax-full"))],
        input=json.dumps([*formulas, ("\\foo", True)]), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    *answers, refused = json.loads(done.stdout)
    assert "<merror" in refused and "Undefined control sequence" in refused
    assert len(answers) == len(formulas)
    for (tex, _), answer in zip(formulas, answers, strict=True):
        assert answer.startswith("<math") and "<merror" not in answer, (tex, answer)


PREAMBLE = r"""\documentclass{article}
\usepackage[T1]{fontenc}\usepackage{textcomp,amsmath,amssymb,booktabs,multirow,tikz}
\usetikzlibrary{calc,arrows.meta,patterns,angles,quotes}
\begin{document}
"""


@pytest.mark.parametrize("engine", ["tables", "geometry"])
def test_pdflatex_alone_sets_every_table_and_drawing(rows, tmp_path, engine):
    texts = [row["text"] for row in rows(engine)]
    starts = {"tables": r"\begin{tabular}", "geometry": r"\begin{tikzpicture}"}
    assert all(text.startswith(starts[engine]) for text in texts)
    body = "\n\\newpage\n".join(texts)
    (tmp_path / "all.tex").write_text(f"{PREAMBLE}{body}\n\\end{{document}}\n", encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-no-shell-escape", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path, capture_output=True, text=True, errors="replace",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:]
    assert re.search(rf"Output written on all.pdf \({len(texts)} pages?,", done.stdout)


def test_json_reads_every_chart_and_every_value_is_a_number_as_a_string(rows):
    for row in rows("charts", "--looks=matplotlib"):
        chart = json.loads(row["text"])
        assert list(chart) == ["title", "source", "x_title", "y_title", "values"]
        series = list(chart["values"].values())
        flat = [each for one in series for each in (one.values() if isinstance(one, dict) else [one])]
        assert flat and all(re.fullmatch(r"-?\d+(\.\d+)?%?", value) for value in flat), flat


def test_a_thousand_boxes_on_lines_hold_their_text_and_nothing_else(rows):
    """Through the boxes of the char_boxes, which the whole page's record tells."""
    made = rows("lines", "--tasks=ocr,box", "--char-boxes", "--lines=2-4", count=1000)
    whole = {
        row["id"].rpartition("-")[0]: json.loads(row["char_boxes"]) for row in made if row["box"] is None
    }
    asked = [row for row in made if row["box"] is not None]
    assert len(asked) == 1000
    for row in asked:
        char_boxes = [(char_box[0], char_box[1:]) for char_box in whole[row["id"].rpartition("-")[0]]]
        assert inside(char_boxes, row["box"]) == "".join(row["text"].split())


def test_a_thousand_boxes_on_pages_hold_their_text_and_nothing_else():
    """Through the boxes that pdfium tells of every character of the page's PDF, set a second time."""
    checked = 0
    drawn = page_engine()
    for index in range(200):
        rng = produce.generator(21, drawn.name, index, 0)
        try:
            made = {row.id.rpartition("-")[2]: row for row in drawn.rows(index, rng)}
        except produce.Rejected:
            continue
        char_boxes = characters(drawn.sources.pop(), made["ocr"].pictures[0])
        ocr = made["ocr"]
        texts = zip(ocr.text.split("\n"), ocr.meta["line_boxes"], strict=True)
        for text, box in [*texts, (made["box"].text, made["box"].box)]:
            assert inside(char_boxes, box) == "".join(text.split()), (index, text)
            checked += 1
        if checked >= 1000:
            return
    raise AssertionError(f"{checked} boxes on 200 pages")


def inside(char_boxes, box):
    """The characters whose middle is in a box, in their order, without spaces."""
    x1, y1, x2, y2 = box
    return "".join(
        char
        for char, (left, top, right, bottom) in char_boxes
        if char.strip() and x1 <= (left + right) / 2 <= x2 and y1 <= (top + bottom) / 2 <= y2
    )


class KeepingEngine(pages.PageEngine):
    """Keeps what typst was given, so that the test can set it again."""

    sources: list[str] = []  # noqa: RUF012 - of the one engine of the test

    def _draw(self, source):
        self.sources.append(source)
        return super()._draw(source)


def page_engine():
    from data_tools.text import corpora

    KeepingEngine.sources.clear()
    faces = pages.find_faces(["DejaVuSerif", "typst:Libertinus Serif", "Lato-Regular"])
    return KeepingEngine(
        corpora.documents("train", ("pydoc",)), faces, ("ocr", "box"), (1024, 1448), 124, (8, 11), (1, 2),
        "png", footnotes=0.1,
    )  # fmt: skip


def characters(source, picture):
    """Every character of the page that typst sets, with its box in pixels of the picture."""
    import io

    import pypdfium2

    pdf = pages._compiler(page_engine()._font_folders).compile(source.encode(), format="pdf", pdf_tags=False)
    with Image.open(io.BytesIO(picture.data)) as image, pypdfium2.PdfDocument(pdf) as document:
        page = document[0]
        across, down = image.width / page.get_width(), image.height / page.get_height()
        layer, height = page.get_textpage(), page.get_height()
        found = []
        for place in range(layer.count_chars()):
            left, bottom, right, top = layer.get_charbox(place)
            # pdfium's name for a hyphen at the end of a line
            char = layer.get_text_range(place, 1).replace("\ufffe", "-")
            found.append(
                (char, (left * across, (height - top) * down, right * across, (height - bottom) * down))
            )
        return found
