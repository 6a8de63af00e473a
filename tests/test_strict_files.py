"""Names as they are printed: nothing in them steers a terminal or begins a line of its own."""

import pytest
from PIL import Image

from got_train.cli import exits
from got_train.errors import ImageError
from got_train.images import open_image
from got_train.inference.pages import find_pages
from got_train.strict_files import printable, printable_lines, strict_json

NAMES = {
    "a\x1b]0;pwn\x07a.png": r"a\x1b]0;pwn\x07a.png",
    "a\ndone: 9 pages.png": r"a\ndone: 9 pages.png",
    "a\r\x08b.png": r"a\r\x08b.png",
    "abc\u202egnp.exe": r"abc\u202egnp.exe",
    "a\u2028b": r"a\u2028b",
    "half \udc80.png": r"half \udc80.png",
    "Rechnung \u00e4\u3000\u4e2d\u0627 (2).png": "Rechnung \u00e4\u3000\u4e2d\u0627 (2).png",
}


@pytest.mark.parametrize("name", NAMES)
def test_signs_that_steer_a_terminal_are_escaped_and_letters_stay(name):
    assert printable(name) == NAMES[name]
    assert printable_lines(f"{name}\nnext") == NAMES[name].replace(r"\n", "\n") + "\nnext"


def test_a_picture_with_a_hostile_name_is_named_on_one_line(tmp_path, capsys):
    path = tmp_path / "a\x1b]0;pwn\x07\nerror: none.png"
    path.write_text("no picture")
    with pytest.raises(ImageError) as caught:
        open_image(path)
    exits.say("infer", str(caught.value))
    said = capsys.readouterr().err
    assert said.startswith(f"infer: {tmp_path}/" + r"a\x1b]0;pwn\x07\nerror: none.png: not a picture")
    assert said.count("\n") == 1
    Image.new("L", (9, 9)).save(path, "PNG")
    (page,) = find_pages([tmp_path])
    assert (page.open().size, str(page)) == ((9, 9), str(tmp_path) + r"/a\x1b]0;pwn\x07\nerror: none.png")


def test_deep_json_and_keys_that_stand_twice_are_value_errors():
    for text, said in (("[" * 100000, "nested too deeply"), ('{"a": 1, "a": 2}', "'a' stands twice")):
        with pytest.raises(ValueError, match=said):
            strict_json(text)
