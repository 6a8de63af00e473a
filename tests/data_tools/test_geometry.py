import json
import math
import random
import re

import numpy as np
import pytest

from data_tools import produce
from data_tools.drawing import renderers
from data_tools.engines import geometry
from data_tools.engines.geometry import KINDS, GeometryEngine, Scene
from tests.engine_rows import made

latex = pytest.mark.skipif(
    not renderers.available("pdflatex", *(f"tex:{name}" for name in geometry.TEX_NEEDS)), reason="needs TikZ"
)


@latex
def test_every_picture_compiles_and_every_statement_ends_with_a_semicolon():
    found = made(GeometryEngine(tuple(KINDS), (110, 150), seed=3), 60)
    rows = [each for each in found if not isinstance(each, str)]
    assert len(rows) > 50
    assert {row.meta["kind"] for row in rows} == set(KINDS)
    for row in rows:
        first, *statements, last = row.text.split("\n")
        assert first.startswith(r"\begin{tikzpicture}") and last == r"\end{tikzpicture}"
        assert all(re.fullmatch(r"\\(draw|fill|node)\b.*;", statement) for statement in statements)
    again = renderers.latex_pages([row.text for row in rows], geometry.PREAMBLES["Computer Modern"])
    assert not [page for page in again if isinstance(page, renderers.LatexFault)]


@latex
def test_the_size_of_a_picture_is_that_of_its_coordinates():
    scene = Scene(random.Random(0))
    scene.rectangle((0, 0), (5, 2))
    source = "\n".join([r"\begin{tikzpicture}", *scene.statements, r"\end{tikzpicture}"])
    page = renderers.latex_pages([source], geometry.PREAMBLES["Computer Modern"], dpi=254)[0]
    dark = np.asarray(page.image.convert("L")) < 128
    height, width = (int(np.ptp(np.nonzero(dark.any(axis))[0])) for axis in (1, 0))
    assert abs(width - 500) < 4 and abs(height - 200) < 4


@latex
@pytest.mark.parametrize("typeface", geometry.PREAMBLES)
def test_a_label_stands_where_the_scene_takes_it_to_be(typeface):
    """text_box must hold the ink that TikZ makes of a node, else lines could run through labels."""
    texts = ("A", "W", "Q", "F_{1}", "-3", "5.5", "y", "b", "1", "A'", r"\vec{b}")
    cases = [(text, direction) for text in texts for direction in (None, *range(8))]
    sides = ["" if way is None else f"[{geometry.DIRECTIONS[way]}]" for _, way in cases]
    frame = r"\path[use as bounding box] (-2,-2) rectangle (2,2);"
    nodes = [rf"\node{side} at (0,0) {{${text}$}};" for side, (text, _) in zip(sides, cases, strict=True)]
    sources = [rf"\begin{{tikzpicture}}{frame}{node}\end{{tikzpicture}}" for node in nodes]
    pages = renderers.latex_pages(sources, geometry.PREAMBLES[typeface], dpi=254, border=0)
    for (text, direction), page in zip(cases, pages, strict=True):
        rows, columns = np.nonzero(np.asarray(page.image.convert("L")) < 128)
        box = geometry.text_box((0, 0), text, direction)
        assert abs(columns / 100 - 2 - box.middle[0]).max() < box.wide / 2 + 0.04, (text, direction)
        assert abs(2 - rows / 100 - box.middle[1]).max() < box.high / 2 + 0.04, (text, direction)


def test_no_line_runs_through_a_label_and_no_two_labels_meet():
    kept = 0
    for seed in range(300):
        scene = Scene(random.Random(seed))
        try:
            KINDS[sorted(KINDS)[seed % len(KINDS)]][1](scene)
            scene.place_labels()
        except produce.Rejected:
            continue
        kept += 1
        named = [statement for statement in scene.statements if statement.startswith(r"\node")]
        assert len(named) == len(scene.wishes)
        for place, box in enumerate(scene.boxes[-len(named) :] if named else []):
            assert not box.holds_any(scene.ink)
            assert not any(box.meets(other) for other in scene.boxes[-len(named) :][:place])
    assert kept > 250


def test_points_of_triangles_are_right_by_independent_rules():
    a, b, c = (0.0, 0.0), (5.0, 0.0), (1.0, 3.0)
    around = geometry.circumcentre(a, b, c)
    assert np.ptp([math.dist(around, point) for point in (a, b, c)]) < 1e-12
    within, radius = geometry.incentre(a, b, c)
    area = 0.5 * 5 * 3
    assert radius == pytest.approx(2 * area / (5 + math.dist(b, c) + math.dist(a, c)))
    assert math.dist(within, geometry.foot(within, a, c)) == pytest.approx(radius)
    assert geometry.foot(c, a, b) == (1.0, 0.0)


def test_terms_are_written_as_in_print():
    assert geometry.term(-1, r"\x") == r"-\x"
    assert geometry.term(0.5, r"\x*\x", first=True) == r"0.5*\x*\x"
    assert geometry.term(2, "") == "+2"
    assert geometry.term(0.001, r"\x") == ""
    assert geometry.number(-0.001) == "0"


@latex
def test_a_label_that_the_text_layer_lacks_is_rejected(monkeypatch):
    engine = GeometryEngine(("triangle",), (110, 150), seed=0)
    real = renderers.latex_pages

    def without_nodes(sources, *rest, **named):
        return real([re.sub(r"(?m)^\\node.*\n", "", source) for source in sources], *rest, **named)

    monkeypatch.setattr(renderers, "latex_pages", without_nodes)
    with pytest.raises(produce.Rejected, match="text layer differs from the source"):
        engine.rows(0, produce.generator(0, "geometry", 0, 0))


@latex
def test_one_index_gives_the_same_bytes_in_any_batch(monkeypatch):
    kinds = ("triangle", "combination", "coordinates")
    one = {"Times": geometry.PREAMBLES["Times"]}
    monkeypatch.setattr(geometry, "PREAMBLES", one)
    together = made(GeometryEngine(kinds, (110, 150), seed=1, degrade=0.5), 6)
    monkeypatch.setattr(geometry, "BATCH", 2)
    assert made(GeometryEngine(kinds, (110, 150), seed=1, degrade=0.5), 6) == together


@latex
def test_the_command_writes_records(tmp_path):
    arguments = ["--out", tmp_path / "out", "--count", 6, "--kinds", "circle", "--container", "folder"]
    arguments += ["--shard-pages", 6]
    assert geometry.main([str(each) for each in [*arguments, "--num-workers", 1]]) == 0
    records = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    assert len(records) == 6
    assert all(record["task"] == "format" and "circle" in record["text"] for record in records)
