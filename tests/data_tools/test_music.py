"""Music: what is composed or cut is what verovio draws, sign by sign, and one system of it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from fractions import Fraction
from importlib import util
from pathlib import Path

import numpy
import pytest
from PIL import Image

from data_tools import produce
from data_tools.drawing.fonts import find_font
from data_tools.engines import music
from data_tools.text import corpora, kern
from got_train.errors import DrawingError

needs_verovio = pytest.mark.skipif(
    not (util.find_spec("verovio") and util.find_spec("resvg_py")), reason="needs verovio and resvg_py"
)
DOCUMENTS = (corpora.Document("a", "", (), ("Plain words of a paragraph that says nothing about music.",)),)
LOOK = {"font": "Leipzig", "scale": 60}
FILE = """!!!COM: Someone
**text\t**kern\t**kern
*\t*clefF4\t*clefG2
*\t*k[b-]\t*k[b-]
*\t*M2/4\t*M2/4
*\t*met(c)\t*met(c)
=1\t=1\t=1
!! a comment
la\t2FF\t4f
.\t.\t4g
=2\t=2\t=2
*\t*clefG2\t*
le\t4d\t[2a
.\t4f\t.
=3\t=3\t=3
lu\t2c\t2a]
=4\t=4\t=4
*\t*\t*^
*\t*\t*\t*
lo\t2c\t4cc\t2f
.\t.\t4dd\t.
*\t*\t*v\t*v
==\t==\t==
*-\t*-\t*-
"""


def rng(seed: int = 0) -> numpy.random.Generator:
    return numpy.random.default_rng(seed)


def engine(**changes: object) -> music.MusicEngine:
    fonts = (find_font("DejaVuSerif"),)
    settings = {"documents": DOCUMENTS, "fonts": fonts, "staves": (1, 2), "bars": (2, 4), "titled": 0.5}
    return music.MusicEngine(**(settings | changes))


def composed(count: int) -> list[str]:
    return [kern.compose(2 + seed % 4, 1 + seed % 2, rng(seed)) for seed in range(count)]


def spines(text: str) -> list[list[str]]:
    return [list(column) for column in zip(*(line.split("\t") for line in text.split("\n")), strict=True)]


def test_the_pitches_of_five_octaves_are_spelt_as_kern_does() -> None:
    assert [kern.pitch(7 * octave) for octave in (1, 2, 3, 4, 5, 6)] == ["CCC", "CC", "C", "c", "cc", "ccc"]
    assert kern.pitch(7 * 4 + 6) == "b" and kern.pitch(7 * 3 + 5) == "A"
    lengths = {"4": Fraction(1, 4), "8.": Fraction(3, 16), "4..": Fraction(7, 16), "12": Fraction(1, 12)}
    assert {each: kern.length(each) for each in lengths} == lengths


def test_beams_of_six_rhythms_are_marked_as_in_humdrums_guide() -> None:
    marks = {"8 8": "L J", "8. 16": "L Jk", "16 8.": "LK J", "8 16 16": "L L JJ", "16 16 8": "LL J J",
             "16 8 16": "LK  Jk"}  # fmt: skip
    assert {rhythm: " ".join(kern.beams(rhythm.split())) for rhythm in marks} == marks


def test_every_bar_of_300_systems_is_as_long_as_its_meter_says_on_both_staves() -> None:
    for text in composed(300):
        top, bottom = (int(part) for part in re.search(r"\*M(\d+)/(\d+)", text).groups())
        for spine in spines(text):
            bars = re.split(r"\n=\S+\n", "\n".join(spine))[1:-1]
            for bar in bars:
                tokens = [token.split(" ")[0] for token in bar.split("\n") if token != "."]
                filled = sum(kern.length(re.search(r"\d+\.*", token)[0]) for token in tokens)
                assert filled == Fraction(top, bottom), text


def test_ties_and_beams_of_300_systems_close_within_each_staff() -> None:
    for text in composed(300):
        for spine in spines(text):
            notes = [token for token in spine if token[0] not in "*=." and "r" not in token]
            for token, following in zip(notes, [*notes, ""][1:], strict=True):
                if "[" in token:  # the next note is the other end, on the same pitches
                    pitches = [re.sub(r"[^a-gA-G#-]", "", note) for note in token.split(" ")]
                    assert "]" in following
                    assert pitches == [re.sub(r"[^a-gA-G#-]", "", note) for note in following.split(" ")]
            data = "".join(notes)
            assert data.count("[") == data.count("]") and data.count("L") == data.count("J")


def shown_signs(text: str) -> Counter[str]:
    """The accidentals that must be seen before notes: those that the key and the bar so far do not say."""
    signs = re.search(r"\*k\[(.*?)\]", text)[1]
    key = {sign[0]: sign[1] for sign in re.findall(r"[a-g][#-]", signs)}
    shown: Counter[str] = Counter()
    for spine in spines(text):
        held: dict[str, str] = {}
        for token in spine:
            if token.startswith("="):
                held = {}
            if token[0] in "*=." or "r" in token:
                continue
            for note in token.split(" "):
                name, sign = re.search(r"([a-gA-G]+)([#n-]?)", note).groups()
                plain = sign.replace("n", "")
                if plain != held.get(name, key.get(name[0].lower(), "")):
                    shown[{"#": "E262", "-": "E260", "": "E261"}[plain]] += 1
                    assert plain or sign == "n"  # a natural sign that is seen is told
                held[name] = plain
    return shown


@needs_verovio
def test_verovio_draws_the_accidentals_of_60_systems_and_no_others() -> None:
    import verovio

    toolkit = verovio.toolkit()
    for text in composed(60):
        toolkit.setOptions({"inputFrom": "humdrum", "breaks": "none", "footer": "none"})
        assert toolkit.loadData(text)
        svg = toolkit.renderToSVG(1)
        found = re.findall(r'class="accid[ "][^>]*>\s*<use [^>]*href="#(E26\d)', svg)
        assert Counter(found) == shown_signs(text), text


@needs_verovio
def test_every_picture_is_one_system_with_all_notes_rests_ties_and_bars() -> None:
    made = 0
    for index in range(12):
        try:
            (row,) = engine(titled=0).rows(index, rng(index))
        except produce.Rejected:
            continue
        made += 1
        grey = numpy.asarray(Image.open(io.BytesIO(row.pictures[0].data)).convert("L")).astype(int)
        ink = grey < grey[0, 0] - 60
        lines = (ink.mean(axis=1) > 0.5).sum()  # rows of pixels that are staff lines
        staves = row.text.split("\n")[0].count("**kern")
        assert 5 * staves <= lines <= 20 * staves  # each one to four pixels thick
        assert not ink[0].any() and not ink[-1].any() and not ink[:, 0].any() and not ink[:, -1].any()
        assert row.task == "format" and row.text.startswith("**kern") and row.text.endswith("*-")
    assert made >= 8


@needs_verovio
def test_a_title_is_in_the_picture_but_never_in_the_target() -> None:
    row = next(
        row
        for seed in range(40)
        for row in engine(titled=1.0, bars=(2, 2)).rows(0, rng(seed))
        if row.meta["heading"][0]
    )
    assert row.meta["heading"][0] not in row.text


@needs_verovio
def test_a_text_that_kills_verovio_is_an_answer_and_the_next_one_is_engraved() -> None:
    engraver = music.Engraver()
    good = kern.compose(2, 2, rng())
    assert "error" not in engraver.engrave(good, LOOK)
    os.kill(engraver._process.pid, signal.SIGABRT)  # as verovio does itself on some truncated texts
    engraver._process.join()
    assert engraver.engrave(good, LOOK) == {"error": "verovio aborts"}
    answer = engraver.engrave(good, LOOK)
    assert answer["systems"] == 1 and answer["drawn"] == kern.counts(good)
    engraver.close()


@needs_verovio
def test_a_meter_that_verovio_hides_is_rejected() -> None:
    hidden = kern.compose(2, 1, rng()).replace("\n=1", "\n*met(c)\n=1")
    with pytest.raises(produce.Rejected, match="signs that are not shown"):
        music._engraved(hidden, LOOK)


def test_a_system_cut_from_a_file_begins_with_the_state_of_its_first_bar(tmp_path: Path) -> None:
    (tmp_path / "piece.krn").write_text(FILE)
    (score,) = kern.read_scores([tmp_path])
    assert score.staves == 2 and len(score.bars) == 4
    assert score.system(0, 1) == (
        "**kern\t**kern\n*clefF4\t*clefG2\n*k[b-]\t*k[b-]\n*M2/4\t*M2/4\n"
        "=1\t=1\n2FF\t4f\n.\t4g\n=2\t=2\n*-\t*-"
    )
    second = score.system(1, 2)  # its clef changes before its first note, so the header says the new one
    assert second.startswith(
        "**kern\t**kern\n*clefG2\t*clefG2\n*k[b-]\t*k[b-]\n*M2/4\t*M2/4\n=1\t=1\n4d\t[2a\n"
    )
    split = score.system(3, 1)
    assert split.endswith("=1\t=1\n*\t*^\n2c\t4cc\t2f\n.\t4dd\t.\n*\t*v\t*v\n=2\t=2\n*-\t*-")
    whole = score.system(0, 3)
    assert "\n=2\t=2\n*clefG2\t*\n4d\t[2a\n" in whole and whole.count("*clefG2") == 2
    with pytest.raises(produce.Rejected, match="across the end"):
        score.system(1, 1)
    with pytest.raises(produce.Rejected, match="across the end"):
        score.system(2, 1)


@needs_verovio
def test_systems_of_a_file_are_records_too(tmp_path: Path) -> None:
    (tmp_path / "piece.krn").write_text(FILE)
    arguments = ["--kern", str(tmp_path), "--bars", "2-2", "--count", "4", "--container", "folder"]
    arguments += ["--sources", "pydoc"]
    for name in ("one", "two"):
        assert music.main([*arguments, "--out", str(tmp_path / name), "--num-workers", "1"]) == 0
    lines = (tmp_path / "one" / "records.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert {record["meta"]["source"] for record in records} <= {"piece.krn:2", "piece.krn:3", "piece.krn:1"}
    for record in records:
        name = record["images"][0]
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


@needs_verovio
def test_two_workers_end_and_write_what_one_writes(tmp_path: Path) -> None:
    arguments = ["--count", "4", "--shard-pages", "2", "--container", "folder", "--sources", "pydoc"]
    for workers in ("1", "2"):
        command = [sys.executable, "-m", "data_tools.engines.music", *arguments, "--num-workers", workers]
        command += ["--out", str(tmp_path / workers)]
        subprocess.run(command, check=True, timeout=100, cwd=Path(__file__).parents[2])
    pictures = sorted(path.relative_to(tmp_path / "1") for path in (tmp_path / "1").rglob("*.png"))
    assert len(pictures) == 4
    for name in (*pictures, Path("records.jsonl")):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_files_without_kern_or_with_torn_rows_are_refused_by_name_and_line(tmp_path: Path) -> None:
    path = tmp_path / "torn.krn"
    path.write_text("**kern\t**kern\n4c\n*-\t*-\n")
    with pytest.raises(DrawingError, match=r"torn.krn:2: 1 tokens, 2 spines"):
        kern.read_scores([path])
    path.write_text("**text\nla\n*-\n")
    with pytest.raises(DrawingError, match="1 files, 1 on the train side, none of them with 1 or 2 staves"):
        kern.read_scores([path])


def test_of_300_systems_of_two_staves_none_has_a_g_clef_under_an_f_clef() -> None:
    seen = set()
    for seed in range(300):
        clefs = kern.compose(1, 2, numpy.random.default_rng(seed)).split("\n")[1].split("\t")
        seen.add(tuple(clefs))  # the lower staff first
    assert seen == {("*clefF4", "*clefG2"), ("*clefG2", "*clefG2"), ("*clefF4", "*clefF4")}
