"""Every case of broken_inputs.py is refused, in the words that docs/broken_inputs.md shows."""

import re
from pathlib import Path

import pytest

from tests import broken_inputs
from tests.broken_inputs import CASES

PAGE = Path(__file__).parents[2] / "docs" / "broken_inputs.md"
SHAPES = (
    r".+?: .+; .+",  # <where>: <what, with the value>; <what would be right>
    r".+ must .+",
    r".+: an override reads section.key=value, .+",
)
WEIGHTS = r"(missing|not of this model): \S+|\S+: the file has \[.*\], the model \[.*\]"  # in lists of them


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """The folder that every case starts from."""
    folder = tmp_path_factory.mktemp("sound")
    with broken_inputs.working_in(folder):
        broken_inputs.sound()
    return folder


@pytest.fixture(scope="module")
def page():
    return PAGE.read_text(encoding="utf-8")


def section(page, group):
    return page.partition(f"## {group}\n")[2].partition("\n## ")[0].splitlines()


def well_formed(message):
    """The line, or all lines of a list, read as they should."""
    first, *listed = message.splitlines()
    shapes = "|".join((*SHAPES, WEIGHTS) if listed else SHAPES)
    return all(re.fullmatch(shapes, each.strip()) for each in listed or [first])


def params():
    for group, cases in CASES.items():
        for case in cases:
            yield pytest.param(group, case, id=f"{group}: {case.what}")


@pytest.mark.parametrize(("group", "case"), params())
def test_a_broken_input_is_refused_in_the_words_of_the_sheet(start, page, group, case):
    if case.cpu_only:
        import paddle

        if paddle.get_device() != "cpu":
            pytest.skip("refused on a CPU only")
    code, message = broken_inputs.run(case, start)
    assert code in (1, 2)
    assert case.names in message
    assert well_formed(message), message
    assert broken_inputs.sheet_row(case, message) in section(page, group)


def test_the_sheet_holds_at_least_60_inputs_and_none_besides(page):
    shown = {group: len(section(page, group)) for group in CASES}
    told = {group: len(cases) for group, cases in CASES.items()}
    assert {group: lines - 3 for group, lines in shown.items()} == told  # blank, heading, rule
    assert sum(told.values()) >= 60
    assert page.startswith(broken_inputs.INTRODUCTION)
    assert all(len({case.what for case in cases}) == len(cases) for cases in CASES.values())


def test_what_the_cases_start_from_is_sound(start):
    """Else every case would be refused for another reason than its own."""
    whole = broken_inputs.Case("nothing", "", broken_inputs.training())
    again = broken_inputs.Case("nothing", "", broken_inputs.resumed())
    read = broken_inputs.Case("nothing", "", broken_inputs.reading("--max-new-tokens", "2"))
    assert [broken_inputs.run(case, start)[0] for case in (whole, again, read)] == [0, 0, 0]
