import io
import json
import re
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from data_tools import produce
from data_tools.drawing import renderers, system_fonts
from data_tools.engines import tables
from data_tools.engines.tables import Cell, Frame, Table, TableEngine
from data_tools.text import corpora
from got_train.errors import DrawingError
from tests.engine_rows import made

STYLE_FILES = ("multirow.sty", "booktabs.sty", "lmodern.sty")
latex = pytest.mark.skipif(
    not renderers.available("pdflatex", *(f"tex:{name}" for name in STYLE_FILES)), reason="needs TeX"
)
HARD = "a_b & 50% #1 $x$ {y} ~^ \\ <z> |\"q\" -- ''r'' ,, fi ffl"


def engine_of(**changed):
    settings = {
        "documents": corpora.documents("train", ("pydoc",)), "frames": (), "from_frames": 0.0, "chinese": 0.0,
        "chinese_fonts": (), "columns": (2, 6), "body": (2, 8), "dpi": (110, 160), "seed": 0,
    }  # fmt: skip
    return TableEngine(**{**settings, **changed})


def grid(tabular):
    """How often each place of a tabular's rows is covered, by a reader of its own."""
    width = len(re.sub(r"[^lcr]", "", re.match(r"\\begin\{tabular\}\{([^}]*)\}", tabular)[1]))
    rows = [line.removesuffix(r" \\") for line in tabular.split("\n") if line.endswith(r" \\")]
    seen = Counter()
    for number, row in enumerate(rows):
        place = 0
        for cell in re.split(r"(?<!\\)&", re.sub(r"\\begin\{tabular\}.*?\\end\{tabular\}", "x", row)):
            columns = re.search(r"\\multicolumn\{(\d+)\}", cell)
            height = re.search(r"\\multirow\{(\d+)\}", cell)
            if cell.strip():
                for down in range(int(height[1]) if height else 1):
                    seen.update((number + down, place + n) for n in range(int(columns[1]) if columns else 1))
            place += int(columns[1]) if columns else 1
        assert place == width
    return len(rows), width, seen


def test_a_table_is_written_as_worked_by_hand():
    header = (
        (Cell("", rows=2), Cell("A_1", columns=2, bold=True), Cell("x", rows=2)),
        (Cell(covered=True), Cell("b"), Cell("c d", split=True), Cell(covered=True)),
    )
    body = (
        (Cell("g", rows=2), Cell("1"), Cell("2"), Cell("3%")),
        (Cell(covered=True), Cell("4"), Cell(), Cell("6")),
    )
    text = tables.tabular(Table("lccr", (*header, *body), 2, "grid"))
    assert text.split("\n") == [
        r"\begin{tabular}{|l|c|c|r|}",
        r"\hline",
        r"\multirow{2}{*}{} & \multicolumn{2}{c|}{\textbf{A\_1}} & \multirow{2}{*}{x} \\",
        r"\cline{2-3}",
        r" & b & \begin{tabular}{c}c \\ d\end{tabular} &  \\",
        r"\hline",
        r"\multirow{2}{*}{g} & 1 & 2 & 3\% \\",
        r"\cline{2-4}",
        r" & 4 &  & 6 \\",
        r"\hline",
        r"\end{tabular}",
    ]
    booktabs = tables.tabular(Table("lccr", (*header, *body), 2, "booktabs")).split("\n")
    assert [line for line in booktabs if "rule" in line] == [
        r"\toprule",
        r"\cmidrule(lr){2-3}",
        r"\midrule",
        r"\bottomrule",
    ]


@latex
def test_hundred_tables_compile_and_no_two_cells_share_a_place():
    found = made(engine_of(), 100)
    rows = [each for each in found if not isinstance(each, str)]
    assert len(rows) > 90
    texts = "\n".join(row.text for row in rows)
    for needed in (r"\multirow", r"\multicolumn", r"\toprule", r"\cline", r"\cmidrule", r"\textbf"):
        assert needed in texts
    for row in rows:
        height, width, seen = grid(row.text)
        assert all(times == 1 and r < height and c < width for (r, c), times in seen.items())
    again = renderers.latex_pages([row.text for row in rows], tables.ENGLISH)
    assert not [page for page in again if isinstance(page, renderers.LatexFault)]


@latex
def test_a_picture_has_the_rules_of_its_target():
    table = Table("cc", ((Cell("aaaa"), Cell("bbbb")), (Cell("cccc"), Cell("dddd"))), 1, "grid")
    page = renderers.latex_pages([tables.tabular(table)], tables.ENGLISH, dpi=200)[0]
    dark = np.asarray(page.image.convert("L")) < 150
    rows, columns = dark.any(1).nonzero()[0], dark.any(0).nonzero()[0]
    inside = dark[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    full_rows, full_columns = (inside.mean(axis) > 0.95 for axis in (1, 0))
    assert [int((np.diff(np.r_[0, full.astype(int)]) == 1).sum()) for full in (full_rows, full_columns)] == [
        3,
        3,
    ]


@latex
def test_every_character_of_a_data_frame_is_in_the_picture():
    frame = Frame("hard.csv", ("Name", "Value"), ((HARD[:28], "1"), (HARD[28:], "2"), ("x", "3")))
    engine = engine_of(frames=(frame,), from_frames=1.0, columns=(2, 2), body=(3, 3))
    rows = made(engine, 5)
    assert not [row for row in rows if isinstance(row, str)]
    assert all(r"a\_b \& 50\% \#1 \$x\$ \{y\}" in row.text for row in rows)


@latex
def test_a_text_layer_that_lacks_a_character_is_rejected(monkeypatch):
    frame = Frame("f.csv", ("Name", "Value"), (("abc", "1"), ("def", "2")))
    engine = engine_of(frames=(frame,), from_frames=1.0)
    monkeypatch.setattr(tables, "snippet", lambda wanted: wanted.tabular.replace("abc", "ac"))
    with pytest.raises(produce.Rejected, match="text layer differs from the source"):
        engine.rows(0, produce.generator(0, "tables", 0, 0))


@latex
@pytest.mark.skipif(not renderers.available("xelatex", "tex:xeCJK.sty", "fc-list"), reason="needs XeTeX")
def test_chinese_tables_are_set_in_fonts_that_have_their_characters():
    from data_tools.drawing import fonts, system_fonts

    try:
        paths = tuple(system_fonts.chinese_fonts())[:3]
    except fonts.FontError:
        pytest.skip("needs a Chinese font")
    rows = [row for row in made(engine_of(chinese=1.0, chinese_fonts=paths), 6) if not isinstance(row, str)]
    assert len(rows) >= 5
    assert all(re.search("[\u4e00-\u9fff]", row.text) for row in rows)
    assert {row.meta["font"] for row in rows} <= {path.stem for path in paths}


@latex
def test_one_index_gives_the_same_bytes_in_any_batch(monkeypatch):
    together = made(engine_of(degrade=0.5), 6)
    monkeypatch.setattr(tables, "BATCH", 2)
    assert made(engine_of(degrade=0.5), 6) == together
    sizes = {Image.open(io.BytesIO(row.pictures[0].data)).size for row in together}
    assert len(sizes) > 1


@latex
def test_the_command_cuts_tables_from_a_csv_file(tmp_path):
    lines = ["Name;Price;Note", *(f"thing {n};{n}.50;n{n}" for n in range(20))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    out = tmp_path / "out"
    arguments = ["--out", out, "--count", 10, "--csv", tmp_path / "a.csv", "--from-frames", 1]
    arguments += ["--container", "folder", "--num-workers", 1, "--sources", "pydoc"]
    if not renderers.available("xelatex", "tex:xeCJK.sty"):
        pytest.skip("needs XeTeX")
    assert tables.main([str(each) for each in arguments]) == 0
    records = [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]
    assert len(records) == 10
    cells = {cell for line in lines for cell in line.split(";")}
    for record in records:
        assert record["meta"]["source"] == "a.csv"
        body = [line for line in record["text"].split("\n") if line.endswith(r" \\")]
        plain = re.sub(r"\\textbf\{(.*?)\}", r"\1", "\n".join(body))
        assert {cell.strip() for line in plain.split("\n") for cell in line[:-3].split("&")} <= cells


def test_files_that_are_no_tables_are_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n1,2,3\n")
    with pytest.raises(DrawingError, match=r"a\.csv: no table of equally long rows"):
        tables.read_csv(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DrawingError, match=r"a\.csv: cannot be read"):
        tables.read_csv(path)


@latex
def test_without_what_sets_chinese_the_english_tables_are_made(tmp_path, monkeypatch):
    def none(names):
        raise system_fonts.NoFontsError("no font")

    monkeypatch.setattr(system_fonts, "chinese_fonts", none)
    monkeypatch.setattr(renderers, "program_version", str)
    monkeypatch.setattr(renderers, "find_tex_file", str)
    words = ["--count=3", "--sources=pydoc", "--num-workers=1", f"--out={tmp_path / 'out'}"]
    summary = tables.make(tables.parser().parse_args([*words, "--chinese=0.5"]))
    assert (summary["rows"], summary["without"]) == (3, {"Chinese": "no font"})
    for refused in (["--chinese=1"], ["--chinese=0.5", "--strict"]):
        with pytest.raises(system_fonts.NoFontsError):
            tables.make(tables.parser().parse_args([*words, *refused]))
