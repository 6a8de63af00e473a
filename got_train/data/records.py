"""Records, one line of training or test data each, and the readers of every format they come in.

Knows files, keys and the words of the tasks; opens no image and knows no token.
"""

import json
import math
import operator
import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import accumulate
from pathlib import Path

import numpy as np

from got_train import images as pictures
from got_train import prompts

UNITS = ("pixel", "thousandth")  # thousandth: of the image's width or height, as the prompt says it
_NOTES = ("id", "meta")  # read over
_KEYS = ("images", "task", "text", "box", "color", "box_unit", "glyphs", *_NOTES)
_IMAGE = "<image>"
_BOM, _SPACE = b"\xef\xbb\xbf", b" \t\r\n"


class RecordError(ValueError):
    """A data file or one of its records that cannot be used, named by file and line."""


@dataclass(frozen=True, slots=True)
class Record:
    """One task with its answer. `images` open as they stand: readers have joined them with their folder."""

    images: tuple[str, ...]  # the page, its tiles (multi_crop), or several pages (multi_page)
    task: str
    text: str
    box: tuple[float, ...] | None = None  # x1, y1, x2, y2 or a point x, y
    color: str | None = None
    box_unit: str = "pixel"
    glyphs: tuple[tuple, ...] = ()  # (character, x1, y1, x2, y2) in pixels, for the encoder's auxiliary loss
    where: str = field(default="record", compare=False)  # file:line, for messages

    def __post_init__(self) -> None:
        self._check_words(self.where)
        self._check_images(self.where)
        if self.box is not None:
            self._check_box(self.where, self.box)
        for glyph in self.glyphs:
            if len(glyph) != 5 or not isinstance(glyph[0], str) or len(glyph[0]) != 1:
                raise RecordError(f"{self.where}: glyph {_short(glyph)}; a character and x1, y1, x2, y2")

    def _check_words(self, where: str) -> None:
        _choice(where, "task", self.task, prompts.TASKS)
        _choice(where, "box_unit", self.box_unit, UNITS)
        if self.color is not None:
            _choice(where, "color", self.color, prompts.COLORS)
        if self.box is not None and self.color is not None:
            raise RecordError(f"{where}: box and color together; one region, named by one of them")
        if self.task not in prompts.ONE_VIEW and (self.box, self.color) != (None, None):
            named = "box" if self.color is None else "color"
            raise RecordError(f"{where}: {named} with task {self.task}; only ocr and format read a region")
        if not isinstance(self.text, str):
            raise RecordError(f"{where}: text is {_short(self.text)}; a string")
        _check_unicode(where, "text", self.text)

    def _check_images(self, where: str) -> None:
        if not isinstance(self.images, tuple):
            raise RecordError(f"{where}: images is {_short(self.images)}; a tuple of paths")
        _check_paths(where, self.images)
        if len(self.images) > 1 and self.task in prompts.ONE_VIEW:
            several = f"{len(self.images)} images with task {self.task}"
            raise RecordError(f"{where}: {several}; one, or task multi_page (pages) or multi_crop (tiles)")

    def _check_box(self, where: str, box: tuple[float, ...]) -> None:
        numbers = isinstance(box, tuple) and all(type(number) in (int, float) for number in box)
        if not numbers or len(box) not in (2, 4) or not all(map(math.isfinite, box)):
            raise RecordError(f"{where}: box is {_short(box)}; four numbers x1, y1, x2, y2, or a point x, y")
        if min(box) < 0:
            raise RecordError(f"{where}: box {list(box)} begins outside the image; no number below 0")
        cut = self.box_unit == "thousandth"  # down to whole thousandths: a thin box may have lost its width
        if cut and not all(type(number) is int and number <= 1000 for number in box):
            raise RecordError(f"{where}: box {list(box)} in thousandths; whole numbers from 0 to 1000")
        if any(low > high or (low == high and not cut) for low, high in zip(box, box[2:], strict=False)):
            raise RecordError(f"{where}: box {list(box)} has no area; x1 < x2 and y1 < y2")


def read_records(
    path: str | os.PathLike,
    image_root: str | os.PathLike | None = None,
    allow_empty: bool = False,
    check_files: bool = False,
    task: str | None = None,
) -> Sequence[Record]:
    """The records of a file or folder, each read and checked when it is asked for.

    A .jsonl or .json list of our own records, of GOT's conversations or of ms-swift's rows; a PaddleMIX meta
    JSON, which joins several of these; or a folder of pictures beside .txt files, all with the same `task`
    (ocr if not given). Image paths are relative to the data file or to `image_root`. `allow_empty` admits
    blank pages, `check_files` looks for each image.
    """
    options = {"image_root": image_root, "allow_empty": allow_empty, "check_files": check_files}
    if os.path.isdir(path):
        return TextFolder(path, task=task or "ocr", **options)
    if task is not None:
        raise RecordError(f"{path}: task {task!r} for a file, whose records name theirs; only for a folder")
    if _meta_rows(path) is not None:
        return JoinedRecords(list(read_meta(path, **options).values()))
    return RecordFile(path, **options)


def read_meta(
    path: str | os.PathLike,
    image_root: str | os.PathLike | None = None,
    allow_empty: bool = False,
    check_files: bool = False,
) -> dict[str, "RecordFile"]:
    """The data sets of a PaddleMIX meta JSON by name; the paths in it are relative to it."""
    form = '{"name": {"images": "folder/", "annotations": "file.json"}}'
    rows = _meta_rows(path)
    if rows is None:
        raise RecordError(f"{path}: not a meta JSON; {form}")
    parts = {}
    for name, row in rows.items():
        where = f"{path}[{name!r}]"
        images, annotations = row.get("images", ""), row["annotations"]
        if not isinstance(images, str) or not isinstance(annotations, str):
            raise RecordError(f"{where}: {_short(row)}; {form}")
        file = Path(path).parent / annotations
        if not file.is_file():
            raise RecordError(f"{where}: no file {file}; annotations are named relative to the meta file")
        root = Path(path).parent / images if image_root is None else image_root
        parts[name] = RecordFile(file, root, allow_empty, check_files)
    return parts


def write_records(path: str | os.PathLike, records: Iterable[Record]) -> int:
    """Writes JSONL with image paths relative to it and returns how many; the file appears when complete."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".tmp")
    count = 0
    try:
        with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
            for record in records:
                file.write(json.dumps(_row(record, path.parent), ensure_ascii=False) + "\n")
                count += 1
        if not count:
            raise RecordError(f"{path}: no records to write; at least one")
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    return count


class RecordFile(Sequence):
    """The records of a JSONL file or a JSON list, found by their byte offsets.

    Holds 8 bytes a record and no open file, so it can be pickled and shared by threads and forked processes.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        image_root: str | os.PathLike | None = None,
        allow_empty: bool = False,
        check_files: bool = False,
    ) -> None:
        self.path = str(path)
        self._root = str(Path(path).parent if image_root is None else image_root)
        self._allow_empty, self._check_files = allow_empty, check_files
        self._is_list = _first_bytes(path).startswith(b"[")
        # One start more than records: each ends where the next begins.
        starts, blanks = (_list_starts(self.path), array("q")) if self._is_list else _line_starts(self.path)
        self._starts, self._blanks = np.array(starts, np.int64), np.array(blanks, np.int64)
        self._size = os.path.getsize(path)
        if not len(self):
            raise RecordError(f"{path}: holds no records; at least one")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, index: int) -> Record:
        index = _place(index, len(self))
        where = self.where(index)
        record = self._parse(_object(where, self._bytes(index), self._is_list), where)
        return _ready(record, self._allow_empty, self._check_files)

    def where(self, index: int) -> str:
        """file:line of a record, or file[index] in a JSON list."""
        if self._is_list:
            return f"{self.path}[{index}]"
        return f"{self.path}:{index + 1 + int(np.searchsorted(self._blanks, index, side='right'))}"

    def _bytes(self, index: int) -> bytes:
        start, end = (int(offset) for offset in self._starts[index : index + 2])
        try:
            with open(self.path, "rb") as file:
                if os.fstat(file.fileno()).st_size != self._size:
                    raise RecordError(f"{self.path}: changed since it was opened; start again")
                file.seek(start)
                return file.read(end - start).strip(_SPACE)
        except OSError as error:
            raise RecordError(f"{self.path}: {error.strerror}; a readable file") from error

    def _parse(self, row: dict, where: str) -> Record:
        read = next((READERS[key] for key in READERS if key in row), _own)
        try:
            return read(row, where, self._root)
        except prompts.PromptError as error:
            raise RecordError(f"{where}: {error}") from error


class TextFolder(Sequence):
    """Pictures of a folder, each with its answer in a .txt file of the same name beside it.

    With `image_root` the pictures are looked for there. The last line end of a file is not part of its text.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        image_root: str | os.PathLike | None = None,
        allow_empty: bool = False,
        check_files: bool = False,
        task: str = "ocr",
    ) -> None:
        _choice(str(folder), "task", task, prompts.ONE_VIEW)
        self._folder, self._task = str(folder), task
        self._allow_empty, self._check_files = allow_empty, check_files
        texts = {Path(name).stem for name in os.listdir(folder) if name.endswith(".txt") and name[0] != "."}
        root = folder if image_root is None else image_root
        if not os.path.isdir(root):
            raise RecordError(f"{root}: no such folder; the folder of the images")
        self._images = pictures.image_files(root)
        stems = [Path(image).stem for image in self._images]
        if not texts and not stems:
            raise RecordError(f"{folder}: holds no records; pictures with a .txt file of the same name")
        for alone, other, ending in (
            (set(stems) - texts, folder, ".txt"),
            (texts - set(stems), root, " picture"),
        ):
            if alone:
                first = min(alone, key=pictures.natural_order)
                raise RecordError(f"{other}: no {first}{ending} ({len(alone)} missing); one text a picture")
        if len(set(stems)) < len(stems):
            twice = next(stem for stem in stems if stems.count(stem) > 1)
            raise RecordError(f"{root}: {stems.count(twice)} pictures {twice}; one a text")

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Record:
        image = self._images[_place(index, len(self))]
        where = os.path.join(self._folder, Path(image).stem + ".txt")
        try:
            text = Path(where).read_text(encoding="utf-8-sig").removesuffix("\n")
        except UnicodeDecodeError as error:
            raise RecordError(f"{where}: not UTF-8 ({error}); save it as UTF-8") from error
        except OSError as error:
            raise RecordError(f"{where}: {error.strerror}; a readable file") from error
        return _ready(Record((image,), self._task, text, where=where), self._allow_empty, self._check_files)


class JoinedRecords(Sequence):
    """Several sequences of records as one, in order."""

    def __init__(self, parts: Sequence[Sequence[Record]]) -> None:
        self._parts = parts
        self._ends = list(accumulate(len(part) for part in parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Record:
        index = _place(index, len(self))
        part = bisect_right(self._ends, index)
        return self._parts[part][index - self._ends[part]]  # counted from the part's end


# Readers of one row. Each takes the row, its file:line and the folder of its images.


def _own(row: dict, where: str, root: str) -> Record:
    """Our own form, the keys of which are those of Record."""
    for key in row:
        if key not in _KEYS:
            raise RecordError(f"{where}: unknown key {key!r}; {_nearest(key, _KEYS)}")
    for key in ("images", "task", "text"):
        if key not in row:
            raise RecordError(f"{where}: no {key}; a record has images, task and text")
    listed, box = row["images"], row.get("box")
    return Record(
        images=_joined(root, listed, where),
        task=row["task"],
        text=row["text"],
        box=tuple(box) if isinstance(box, list) else box,
        color=row.get("color"),
        box_unit=row.get("box_unit", "pixel"),
        glyphs=tuple(map(tuple, row.get("glyphs", ()))),
        where=where,
    )


def _conversation(row: dict, where: str, root: str) -> Record:
    """GOT's own form: {"image": file or folder, "conversations": [human, gpt]}."""
    asked, answer = _turns(row["conversations"], where, "conversations", ("from", "value"), ("human", "gpt"))
    image = row.get("image")
    images = _joined(root, [image] if isinstance(image, str) else image, where)
    marks = asked.count(_IMAGE)
    if marks not in (1, len(images)):
        raise RecordError(f"{where}: {marks} {_IMAGE} in the question; one, before the query")
    return _asked(asked, answer, _expanded(images, where), where)


def _messages(row: dict, where: str, root: str) -> Record:
    """ms-swift's rows with messages."""
    asked, answer = _turns(row["messages"], where, "messages", ("role", "content"), ("user", "assistant"))
    return _swift(row, asked, answer, where, root)


def _query(row: dict, where: str, root: str) -> Record:
    """ms-swift's rows with query and response."""
    return _swift(row, row["query"], row.get("response"), where, root)


# By the key that tells the format; rows with none of these are our own.
READERS: dict[str, Callable[[dict, str, str], Record]] = {
    "conversations": _conversation,
    "messages": _messages,
    "query": _query,
}

# Keys of ms-swift rows that would change what is learnt. Others are notes and are left alone.
_SWIFT_REFUSED = {
    "history": "one question and one answer",
    "system": "leave it out, the prompt has GOT's own system sentence",
    "objects": "write the box into the query, in thousandths",
    "videos": "pictures only",
    "audios": "pictures only",
    "tools": "leave it out",
    "rejected_response": "leave it out",
    "labels": "this is a result of inference, its answers are predictions",
}


def _swift(row: dict, asked: object, answer: object, where: str, root: str) -> Record:
    for key, advice in _SWIFT_REFUSED.items():
        if row.get(key):
            raise RecordError(f"{where}: {key} is {_short(row[key])}; {advice}")
    for name, value in (("question", asked), ("answer", answer)):
        if not isinstance(value, str):
            raise RecordError(f"{where}: the {name} is {_short(value)}; a string")
    listed = row.get("images") or []
    if isinstance(listed, list):
        listed = [item.get("path") if isinstance(item, dict) else item for item in listed]
    images = _joined(root, [listed] if isinstance(listed, str) else listed, where)
    if asked.count(_IMAGE) != len(images):
        marks = f"{asked.count(_IMAGE)} {_IMAGE}"
        raise RecordError(f"{where}: {marks} for {len(images)} image(s); one {_IMAGE} an image")
    return _asked(asked, answer, images, where)


def _asked(asked: str, answer: str, images: tuple[str, ...], where: str) -> Record:
    """The record behind a query in the prompt's words; a box in these is in thousandths."""
    task, box, color = prompts.parse_query(asked.replace(_IMAGE, "").lstrip("\n"))
    unit = "pixel" if box is None else "thousandth"
    box = None if box is None else tuple(box)
    return Record(images, task, answer, box, color, unit, where=where)


def _turns(turns: object, where: str, key: str, names: Sequence[str], speakers: Sequence[str]) -> list[str]:
    """The two texts of a conversation of one question and one answer."""
    speaker, said = names
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise RecordError(f"{where}: {key} is {_short(turns)}; a list of turns")
    if len(turns) > 2 and turns[0].get(speaker) == speakers[0]:
        raise RecordError(f"{where}: {len(turns)} turns; one question and one answer, no further rounds yet")
    found = tuple(turn.get(speaker) for turn in turns)
    if found != speakers:
        named = ", ".join(map(str, found)) or "nobody"
        raise RecordError(f"{where}: turns of {named}; one of {speakers[0]}, then one of {speakers[1]}")
    for turn in turns:
        if not isinstance(turn.get(said), str):
            raise RecordError(f"{where}: the {said} of {turn[speaker]} is {_short(turn.get(said))}; a string")
    return [turn[said] for turn in turns]


def _expanded(paths: tuple[str, ...], where: str) -> tuple[str, ...]:
    """A single folder replaced by the pictures in it, in natural order."""
    if len(paths) > 1 or paths[0].lower().endswith(pictures.SUFFIXES) or not os.path.isdir(paths[0]):
        return paths
    files = tuple(pictures.image_files(paths[0]))
    if not files:
        raise RecordError(f"{where}: no pictures in the folder {paths[0]}; tiles or pages as PNG files")
    return files


def _joined(root: str, listed: object, where: str) -> tuple[str, ...]:
    if not isinstance(listed, list):
        raise RecordError(f"{where}: images is {_short(listed)}; a list of paths, even of one")
    _check_paths(where, listed)
    return tuple(os.path.join(root, path) for path in listed)


def _row(record: Record, folder: Path) -> dict:
    row = {
        "images": [Path(os.path.relpath(image, folder)).as_posix() for image in record.images],
        "task": record.task,
        "text": record.text,
    }
    if record.box is not None:
        row["box"] = list(record.box)
    if record.color is not None:
        row["color"] = record.color
    if record.box_unit != "pixel":
        row["box_unit"] = record.box_unit
    if record.glyphs:
        row["glyphs"] = [list(glyph) for glyph in record.glyphs]
    return row


def _ready(record: Record, allow_empty: bool, check_files: bool) -> Record:
    if not allow_empty and not record.text.strip():
        raise RecordError(f"{record.where}: empty answer; the text seen, or allow_empty for blank pages")
    missing = [image for image in record.images if check_files and not os.path.isfile(image)]
    if missing:
        raise RecordError(f"{record.where}: no file {missing[0]}; relative to the data file or image_root")
    return record


# Files and bytes.


def _first_bytes(path: str | os.PathLike) -> bytes:
    """The beginning of a data file from its first character on, which tells a JSON list from lines."""
    try:
        with open(path, "rb") as file:
            start = file.read(4096)
    except FileNotFoundError as error:
        raise RecordError(f"{path}: no such file; a .jsonl or .json file, or a folder") from error
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; a readable file") from error
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecordError(f"{path}: is UTF-16; save it as UTF-8")
    return start.removeprefix(_BOM).lstrip(_SPACE)


def _meta_rows(path: str | os.PathLike) -> dict | None:
    """The rows of a PaddleMIX meta JSON, or None for all other data files."""
    if Path(path).suffix.lower() != ".json" or not _first_bytes(path).startswith(b"{"):
        return None
    try:
        rows = json.loads(Path(path).read_bytes().decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None  # lines under the name of .json, or broken: the line will tell
    is_meta = rows and all(isinstance(row, dict) and "annotations" in row for row in rows.values())
    return rows if is_meta else None


def _line_starts(path: str) -> tuple[array, array]:
    """Byte offsets of all but the blank lines, with the end; and how many stand before each blank line."""
    starts, blanks, offset = array("q"), array("q"), 0
    with open(path, "rb") as file:
        offset = file.seek(len(_BOM) if file.read(len(_BOM)) == _BOM else 0)
        for line in file:
            if line.strip(_SPACE):
                starts.append(offset)
            else:
                blanks.append(len(starts))
            offset += len(line)
    starts.append(offset)
    return starts, blanks


def _list_starts(path: str) -> array:
    """Byte offsets of the elements of a JSON list, with the end of the last."""
    # As Latin-1 a place in the text is a byte offset, and all that JSON is built of is ASCII in UTF-8 too.
    text = Path(path).read_bytes().decode("latin-1")
    decoder, space = json.JSONDecoder(), re.compile(r"[ \t\n\r]*")
    starts = array("q")
    at = space.match(text, text.index("[") + 1).end()
    more = text[at : at + 1] != "]"
    try:
        while more:
            starts.append(at)
            at = space.match(text, decoder.raw_decode(text, at)[1]).end()
            more = text[at : at + 1] == ","
            if more:
                at = space.match(text, at + 1).end()
            elif text[at : at + 1] != "]":
                raise json.JSONDecodeError("a comma or ] is missing", text, at)
        if space.match(text, at + 1).end() < len(text):
            raise json.JSONDecodeError("something follows the list", text, at + 1)
    except (ValueError, RecursionError) as error:
        where = f"{path}[{max(0, len(starts) - 1)}]"
        raise RecordError(f"{where}: not JSON: {error}; a list of objects") from error
    starts.append(at)
    return starts


def _object(where: str, raw: bytes, in_list: bool) -> dict:
    try:
        text = raw.decode()
        row = json.JSONDecoder().raw_decode(text)[0] if in_list else json.loads(text)
    except UnicodeDecodeError as error:
        raise RecordError(f"{where}: not UTF-8 ({error}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        what = f"{error.msg} at column {error.colno}"
        raise RecordError(f"{where}: not JSON: {what}; one object a line, or a list of objects") from error
    except (ValueError, RecursionError) as error:  # numbers or nesting beyond Python's limits
        raise RecordError(f"{where}: not JSON: {error}; one object a line, or a list of objects") from error
    if not isinstance(row, dict):
        raise RecordError(f"{where}: {_short(row)}; an object with images, task and text")
    return row


def _place(index: int, count: int) -> int:
    if not -count <= operator.index(index) < count:
        raise IndexError(f"record {index} of {count}")
    return operator.index(index) % count


def _choice(where: str, name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise RecordError(f"{where}: {name} is {_short(value)}; {_nearest(value, choices)}")


def _nearest(value: object, choices: Sequence[str]) -> str:
    close = get_close_matches(str(value), choices, 1)
    return f"did you mean {close[0]}?" if close else f"one of {', '.join(choices)}"


def _check_paths(where: str, paths: Sequence) -> None:
    if not paths:
        raise RecordError(f"{where}: images is empty; at least one path")
    for place, path in enumerate(paths):
        if not isinstance(path, str) or not path:
            raise RecordError(f"{where}: images[{place}] is {_short(path)}; the path of an image")
        _check_unicode(where, f"images[{place}]", path)


def _check_unicode(where: str, name: str, text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        half = ascii(text[error.start])
        raise RecordError(f"{where}: {name} holds half a character, {half}; whole ones") from error


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
