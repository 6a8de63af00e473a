"""No content of a file leads to a traceback, a hang or a silent wrong reading; most are refused by name."""

import pytest

from tests.robustness.fuzz import COLUMNS, KINDS, make_sound, run


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    make_sound(folder)
    return folder


def check(sound, kind, count, seed):
    counts, examples = run(kind, sound, count, seed)
    assert sum(counts.values()) == count
    assert {column: examples.get(column) for column in COLUMNS[2:]} == dict.fromkeys(COLUMNS[2:])
    return counts


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_300_mutations_of_a_file_are_refused_by_its_name_or_read_as_the_format_allows(sound, kind):
    assert check(sound, kind, 300, 0)["refused"] > 30


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_2000_other_mutations_of_a_file(sound, kind):
    check(sound, kind, 2000, 1)
