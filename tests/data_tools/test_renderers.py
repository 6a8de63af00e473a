import os
import signal

import numpy as np
import pytest

from data_tools.drawing import renderers
from data_tools.drawing.renderers import Ahead, LatexFault, LatexPage, Node, RendererError

latex = pytest.mark.skipif(not renderers.available("pdflatex", "tex:lmodern.sty"), reason="needs TeX")
needs_node = pytest.mark.skipif(not renderers.available("node"), reason="needs node")

PREAMBLE = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{lmodern,amsmath}"
ECHO = """
import { createInterface } from 'node:readline'
for await (const line of createInterface({ input: process.stdin })) {
  const { id, word } = JSON.parse(line)
  console.log('a package that talks')
  if (word === 'die') throw new Error('the reason')
  if (word !== 'sleep') console.log(JSON.stringify({ id, word: word.toUpperCase(), pid: process.pid }))
}
"""


@pytest.fixture
def echo(tmp_path):
    script = tmp_path / "echo.mjs"
    script.write_text(ECHO)
    node = Node(str(script), seconds=10)
    yield node
    node.close()


def test_what_is_missing_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RendererError, match="^node: not found; `make data-tools` installs it$"):
        renderers.find_program("node")
    with pytest.raises(RendererError, match="^pdflatex: not found"):
        renderers.latex_pages(["x"], PREAMBLE)
    with pytest.raises(RendererError, match="^npm package nonesuch: not found in data_tools/node"):
        renderers.find_package("nonesuch")
    assert not renderers.available("node")


@needs_node
def test_one_process_answers_until_it_dies_and_another_after(echo):
    first = echo.ask({"word": "gr\u00fcn"})
    assert first["word"] == "GR\u00dcN"
    assert echo.ask({"word": "two"})["pid"] == first["pid"]
    with pytest.raises(RendererError, match="ended with 1: Error: the reason"):
        echo.ask({"word": "die"})
    second = echo.ask({"word": "three"})
    assert second["pid"] != first["pid"]
    os.kill(second["pid"], signal.SIGKILL)
    echo._process.wait()
    assert echo.ask({"word": "four"})["word"] == "FOUR"


@needs_node
def test_silence_ends_after_the_time_limit_and_its_answer_is_never_taken_for_another(echo):
    assert echo.ask({"word": "one"})["word"] == "ONE"
    echo.seconds = 0.3
    with pytest.raises(RendererError, match=r"no answer within 0\.3 seconds"):
        echo.ask({"word": "sleep"})
    echo.seconds = 10
    assert echo.ask({"word": "next"})["word"] == "NEXT"


@needs_node
def test_a_forked_process_speaks_to_a_node_of_its_own(echo):
    mine = echo.ask({"word": "mine"})["pid"]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(echo.ask({"word": "child"})["pid"]).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 20)) != mine
    assert echo.ask({"word": "still"})["pid"] == mine


@latex
def test_wrong_snippets_are_found_and_the_others_look_as_if_they_were_alone():
    good = ["first", "$x^2$", "second", "third", "fourth"]
    bad = {
        1: (r"\foo", "LaTeX error"),
        3: ("{open", "LaTeX error"),
        4: ("close} x {", "LaTeX makes no page"),
        6: (r"\begin{array}{c} a", "LaTeX error"),
        7: (r"{\fontfamily{xyz}\selectfont a}", "font replaced"),
        9: (r"\parbox{2em}{Donaudampfschiff}", "line wider than its column"),
        10: (r"\hbox{}", "nothing to be seen"),
        11: (r"\input{/etc/passwd}", "LaTeX error"),
        12: (r"\rule{400cm}{1cm}", "picture too large"),
        13: (r"{\fontencoding{OML}\selectfont\char200}", "font lacks a character"),
    }
    rest = iter(good)
    snippets = [bad[i][0] if i in bad else next(rest) for i in range(len(good) + len(bad))]
    pages = renderers.latex_pages(snippets, PREAMBLE)
    causes = {i: page.cause for i, page in enumerate(pages) if isinstance(page, LatexFault)}
    assert causes == {i: cause for i, (_, cause) in bad.items()}
    kept = [page for page in pages if isinstance(page, LatexPage)]
    assert [page.text.split() for page in kept] == [["first"], ["x", "2"], ["second"], ["third"], ["fourth"]]
    for snippet, page in zip(good, kept, strict=True):
        alone = renderers.latex_pages([snippet], PREAMBLE)[0]
        assert np.array_equal(np.asarray(alone.image), np.asarray(page.image))


@latex
def test_a_snippet_without_end_costs_its_time_limit_only():
    pages = renderers.latex_pages(["one", r"\loop\iftrue\repeat", "two"], PREAMBLE, seconds=3)
    assert [getattr(page, "cause", "") for page in pages] == ["", "LaTeX takes too long", ""]


@latex
def test_snippets_cannot_run_commands_or_write_outside(tmp_path):
    target = tmp_path / "written"
    snippets = [
        rf"\immediate\write18{{touch {target}}}a",
        rf"\newwrite\f\immediate\openout\f={target} \immediate\write\f{{x}}a",
    ]
    renderers.latex_pages(snippets, PREAMBLE)
    assert list(tmp_path.iterdir()) == []


@latex
def test_a_preamble_that_fails_is_an_error_and_no_fault_of_the_snippets():
    with pytest.raises(RendererError, match=r"preamble fails: .*nonesuch\.sty"):
        renderers.latex_pages(["x"], PREAMBLE + r"\usepackage{nonesuch}")


@latex
def test_resolution_is_for_each_snippet():
    pages = renderers.latex_pages([r"\rule{72bp}{36bp}"] * 2, PREAMBLE, dpi=[72, 144], border=9)
    assert [page.image.size for page in pages] == [(90, 54), (180, 108)]


def test_batches_give_every_page_what_it_gets_alone():
    made = []

    def make(wanted):
        made.append(len(wanted))
        return [each * 2 for each in wanted]

    def draw(index, rng):
        return int(rng.integers(10**9))

    def generator(index, attempt=0):
        from data_tools import produce

        return produce.generator(7, "test", index, attempt)

    pages = Ahead("test", 7, 4, draw, make)
    answers = [pages.get(index, generator(index)) for index in range(6)]
    assert made == [4, 4]
    assert pages.get(5, generator(5, attempt=1))[0] != answers[5][0]
    assert made == [4, 4, 1]
    alone = [Ahead("test", 7, 1, draw, make).get(index, generator(index)) for index in range(6)]
    assert answers == alone
    assert all(double == 2 * wanted for wanted, double in answers)


def test_a_page_rejected_before_it_is_made_comes_with_its_batch_all_the_same():
    from data_tools import produce

    made = []

    def make(wanted):
        made.append(len(wanted))
        return wanted

    def draw(index, rng):
        number = int(rng.integers(10**9))
        if number % 2:
            raise produce.Rejected("odd")
        return number

    pages = Ahead("test", 3, 8, draw, make)
    for index in range(8):
        for attempt in range(30):
            try:
                wanted, answer = pages.get(index, produce.generator(3, "test", index, attempt))
                break
            except produce.Rejected:
                continue
        assert answer == wanted and wanted % 2 == 0
    assert made == [8]
