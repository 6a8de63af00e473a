"""Rows of every format as records: our own, GOT's, ms-swift's, Donut's, Nougat's and PaddleOCR-VL's.

Knows keys and columns; where a row comes from is no matter of this file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from got_train import images as pictures
from got_train import prompts, remote_files
from got_train.errors import PromptError
from got_train.images import EncodedImage

from .record import Record, RecordError, check_images, nearest_choice, rename_keys, shorten, tell_once

_NOTES = ("id", "meta")  # read over
_KEYS = ("images", "task", "text", "box", "color", "box_unit", "char_boxes", "prompt", "document", "rejected")
_KEYS += _NOTES
_TABLE_KEYS = (*_KEYS, "image", "file_name")  # as Hugging Face's image folders call their pictures
_NEEDED = ("images", "text", "conversations", "messages", "query", "response")
_IMAGE = "<image>"
# what others call the picture, the answer and the question of a row, the surest first
IMAGE_COLUMNS = (
    *("image", "images", "file_name", "image_path", "img_path", "img", "filename", "path", "file", "picture"),
    *("image_name", "img_name", "file_path", "filepath", "pixel_values"),
)
TEXT_COLUMNS = (
    *("text", "ground_truth", "answer", "transcription", "words", "response", "markdown", "label", "gt"),
    *("ocr_text", "transcript", "caption", "sentence", "target", "output", "content"),
    *("latex", "latex_formula", "formula", "html"),
)
MARKED_UP = ("markdown", "latex", "latex_formula", "formula", "html")  # answers of the task format
PROMPT_COLUMNS = ("prompt", "question", "instruction", "query")
# PaddleOCR-VL's questions, by the tasks that are nearest
_PADDLE_PROMPTS = {
    "OCR:": "ocr",
    "Table Recognition:": "format",
    "Formula Recognition:": "format",
    "Chart Recognition:": "format",
}


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """How the rows of one source become records."""

    root: str  # what relative image paths start from
    columns: Mapping[str, str] = field(default_factory=dict)  # key of a record -> name in the row
    task: str | None = None  # of rows that name none
    allow_empty: bool = False  # blank pages
    check_files: bool = False  # look for each image
    table: bool = False  # rows of a table: None for what a row has not, a picture need not be a list
    accept_answers: tuple[str, ...] = ()  # kinds of unusual answers that are meant, see answers.py

    def record(self, row: dict, location: str) -> Record:
        """The record of a row that stands at `where`."""
        row = self._keys(row, location)
        read = _reader_of(row) or _own
        if "json" not in self.accept_answers:
            row = _unwrapped(row, location)
        try:
            return self.validate(read(row, location, self.root))
        except PromptError as error:
            raise RecordError(f"{location}: {error}") from error

    def columns_to_read(self, names: Sequence[str], location: str) -> list[str]:
        """The columns to read of a table that has these; refuses what no row of it could answer."""
        twice = next((name for name in names if list(names).count(name) > 1), None)
        if twice is not None:
            raise RecordError(f"{location}: two columns are called {shorten(twice)}; rename one of them")
        columns = {key: self._name(name, names) for key, name in self.columns.items()}
        for key, name in columns.items():
            if name not in names:
                raise RecordError(f"{location}: no column {name!r} for {key}; it has {', '.join(names)}")
        if self.columns:
            return list(dict.fromkeys(columns.values()))
        if _reader_of(dict.fromkeys(names)) is None:
            _check_keys(rename_keys(dict.fromkeys(names)), _TABLE_KEYS, location, "column")
        return list(names)

    def _keys(self, row: dict, location: str) -> dict:
        """The row by the keys of a record."""
        row = self._renamed(row, location) if self.columns else rename_keys(row)
        if self.table:
            row = {key: value for key, value in row.items() if not _absent(key, value)}
            if _reader_of(row) is None:
                row = _table_row(row, location)
        if (self.columns or self.table) and not isinstance(row.get("images", []), list):
            row["images"] = [row["images"]]
        return row if row.get("task") or not self.task else {**row, "task": self.task}

    def _renamed(self, row: dict, location: str) -> dict:
        names = {key: self._name(name, row) for key, name in self.columns.items()}
        for key, name in names.items():
            if name not in row and key in _NEEDED:
                named = f"no {name!r}, which columns names for {key}"
                raise RecordError(f"{location}: {named}; it has {', '.join(row)}")
        return {key: row[name] for key, name in names.items() if name in row}

    def _name(self, name: str, names: Container[str]) -> str:
        """A column's name in the file: the image of an image folder is called file_name there."""
        folder = self.table and name == "image" and name not in names and "file_name" in names
        return "file_name" if folder else name

    def validate(self, record: Record) -> Record:
        """The record, if it has an answer and its images are there."""
        if not self.allow_empty and not record.text.strip():
            raise RecordError(
                f"{record.location}: empty answer; give the text seen, or allow_empty for blank pages"
            )
        paths = [image for image in record.images if self.check_files and isinstance(image, str)]
        missing = [path for path in paths if not _is_file(path)]
        if missing:
            raise RecordError(
                f"{record.location}: no file {missing[0]}; paths are relative to the data file or image_root"
            )
        return record


def _absent(key: str, value: object) -> bool:
    """Whether a cell holds nothing; an empty text is that of a blank page."""
    return value is None or (key != "text" and isinstance(value, str) and not value)


def _table_row(row: dict, location: str) -> dict:
    """A row of our own form in a table, where the picture may be called image or file_name."""
    _check_keys(row, _TABLE_KEYS, location, "column")
    named = row.pop("image", None), row.pop("file_name", None)
    listed = next((value for value in named if value is not None), None)
    if listed is None:
        return row
    if "images" in row:
        raise RecordError(f"{location}: both image and images; say in columns which to read")
    return {"images": listed, **row}


# what other programs write, by keys that only they have, and what to give instead
_FOREIGN = (
    ({"Blocks"}, "Amazon Textract's answer", "its positions are not read; write hOCR or ALTO of it"),
    ({"responses"}, "Google Vision's answer", "it is not read; write hOCR or ALTO of it"),
    ({"fullTextAnnotation"}, "Google Vision's answer", "it is not read; write hOCR or ALTO of it"),
    ({"analyzeResult"}, "Azure's answer", "it is not read; write hOCR or ALTO of it"),
    (
        {"rec_texts", "rec_scores"},
        "PaddleOCR's answer",
        "correct it in PPOCRLabel and give its Label.txt, or write lines of image and text",
    ),
    (
        {"schema_name", "texts"},
        "a DoclingDocument",
        "export Markdown of it, and give picture and .md as rows",
    ),
    ({"level", "page_num", "conf"}, "Tesseract's TSV", "write hOCR or ALTO (tesseract page.png out hocr)"),
    *(
        (
            own,
            "VoTT's labels",
            "their regions have tags and no texts; label texts in Label Studio or PPOCRLabel",
        )
        for own in ({"asset", "regions"}, {"assets", "tags"})
    ),
    ({"#filename", "region_shape_attributes"}, "VIA's CSV", "export its annotations as JSON"),
    ({"annotation_id", "lead_time"}, "Label Studio's CSV", "export JSON"),
    ({"metainfo", "data_list"}, "MMOCR's labels", "they are not read; write PaddleOCR's or ICDAR's of them"),
    ({"file_name", "annotations"}, "a page of WildReceipt", "it is not read; write ICDAR's lines of it"),
    ({"lang", "documents"}, "XFUND's labels", "give each page as FUNSD has it, an object with form"),
    ({"info", "annotations"}, "HierText's labels, or COCO without images", "write COCO-Text of them"),
    ({"data", "annotations"}, "a task of Label Studio in lines", "export JSON, which is one list"),
    ({"questionId", "answers"}, "questions about a page (DocVQA)", "GOT reads text; give the page's text"),
    ({"valid_line"}, "CORD's label file", "it is not read; give its rows with the text of the page"),
    ({"instruction", "output"}, "Alpaca's rows", "name the picture and the answer in columns"),
)


def foreign_rows(keys: Iterable[str]) -> tuple[str, str]:
    """What rows with these keys are of another program, and what helps; empty if nobody knows them."""
    names = set(keys)
    return next(((name, advice) for own, name, advice in _FOREIGN if own <= names), ("", ""))


def _check_keys(keys: Iterable[str], known: Sequence[str], location: str, kind: str) -> None:
    keys = list(keys)
    name, help_with = foreign_rows(keys)
    if name:
        raise RecordError(f"{location}: {name}; {help_with}")
    for key in keys:
        if key not in known:
            advice = f"say in columns which to read, such as {_suggested(keys)}"
            if kind == "key":
                foreign = guess_columns(keys).get("images", "images") != "images"
                example = f", such as {_suggested(keys)}" if foreign else ""
                advice = f"{nearest_choice(key, known)}, or say in columns which to read{example}"
            raise RecordError(f"{location}: unknown {kind} {key!r}; {advice}")


def _suggested(names: Sequence[str]) -> str:
    """`columns` for a table with these names, as YAML."""
    columns = guess_columns(names)
    if not columns and len(names) > 1:
        return f"{{images: {names[0]}, text: {names[1]}}} if it is these"
    columns = columns or {"images": "image", "text": "text"}
    return "{" + ", ".join(f"{key}: {name}" for key, name in columns.items()) + "}"


def guess_columns(names: Sequence[str]) -> dict[str, str]:
    """Which of these names stand for the picture and the answer; empty if none is like it."""
    given = {name.lower(): name for name in reversed(names)}
    image = next((given[name] for name in IMAGE_COLUMNS if name in given), None)
    text = next((given[name] for name in TEXT_COLUMNS if name in given and given[name] != image), None)
    if image is None or text is None:
        return {}
    others = {key: key for key in ("task", "box", "color", "document") if key in names}
    return {"images": image, "text": text, **others}


def _own(row: dict, location: str, root: str) -> Record:
    """Our own form, the keys of which are those of Record."""
    _check_keys(row, _KEYS, location, "key")
    if "prompt" in row:
        row = {**row, "task": _asked_task(row["prompt"], location)}
    for key in ("images", "task", "text"):
        if key not in row:
            advice = "a record has images, task and text" + "; task may be the source's" * (key == "task")
            raise RecordError(f"{location}: no {key}; {advice}")
    box = _parsed(row.get("box"))
    return Record(
        images=_opened(root, row["images"], location),
        task=row["task"],
        text=row["text"],
        box=tuple(box) if isinstance(box, list) else box,
        color=row.get("color"),
        box_unit=row.get("box_unit", "pixel"),
        char_boxes=_char_boxes(_parsed(row.get("char_boxes", [])), location),
        document=str(row.get("document") or ""),
        rejected="" if row.get("rejected") is None else row["rejected"],
        location=location,
    )


def _char_boxes(values: object, location: str) -> tuple:
    if not isinstance(values, (list, tuple)):
        raise RecordError(
            f"{location}: char_boxes is {shorten(values)}; expected lists of a character, x1, y1, x2, y2"
        )
    return tuple(tuple(char_box) if isinstance(char_box, list) else char_box for char_box in values)


def _conversation(row: dict, location: str, root: str) -> Record:
    """GOT's own form: {"image": file or folder, "conversations": [human, gpt]}."""
    turns = row["conversations"]
    if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
        names = {"user": "human", "assistant": "gpt"}  # as some write ShareGPT's form
        turns = [{**turn, "from": names.get(str(turn.get("from")), turn.get("from"))} for turn in turns]
    asked, answer = _turns(turns, location, "conversations", ("from", "value"), ("human", "gpt"))
    image = row.get("image", row.get("images"))
    listed = [image] if isinstance(image, (str, bytes, dict)) else image
    images = _opened(root, listed, location)
    marks = asked.count(_IMAGE)
    if marks not in (1, len(images)):
        raise RecordError(f"{location}: {marks} {_IMAGE} in the question; expected one, before the query")
    return _asked(asked, answer, _expanded(images, location), location)


def _messages(row: dict, location: str, root: str) -> Record:
    """ms-swift's rows with messages."""
    listed: list = []  # pictures inside the messages
    if isinstance(turns := row["messages"], list) and all(isinstance(turn, dict) for turn in turns):
        turns = [{**turn, "content": _flat_content(turn.get("content"), listed)} for turn in turns]
    asked, answer = _turns(turns, location, "messages", ("role", "content"), ("user", "assistant"))
    if any(named is not None for named in listed) and not row.get("images"):
        row = {**row, "images": listed}
    return _swift(row, asked, answer, location, root)


def _query(row: dict, location: str, root: str) -> Record:
    """ms-swift's rows with query and response."""
    return _swift(row, row["query"], row.get("response"), location, root)


def task_of_prompt(prompt: str) -> str:
    """The task that a question in GOT's words asks for, with or without their last space; empty otherwise."""
    words = prompt.replace(_IMAGE, "").strip()
    return next((task for task in prompts.TASKS if prompts.WORDS[task].strip() == words), "")


def _asked_task(prompt: object, location: str) -> str:
    if not isinstance(prompt, str):
        raise RecordError(f"{location}: the prompt is {shorten(prompt)}; expected a string")
    if task := task_of_prompt(prompt):
        return task
    known = ", ".join(words.strip() for words in prompts.WORDS.values())
    raise RecordError(
        f"{location}: the prompt {shorten(prompt)} is none of GOT's questions ({known}); leave the row out"
    )


def _unwrapped(row: dict, location: str) -> dict:
    """The row with the text of Donut's `{"gt_parse": {"text_sequence": ...}}` as its answer."""
    key = "text" if "text" in row else "ground_truth"
    text = row.get(key)
    if not isinstance(text, (str, dict)) or (isinstance(text, str) and '"gt_parse' not in text[:40]):
        return row
    parse = _parsed(text)
    parse = parse.get("gt_parse", parse.get("gt_parses")) if isinstance(parse, dict) else None
    if parse is None:
        return row
    if not isinstance(parse, dict) or not isinstance(parse.get("text_sequence"), str):
        keys = ", ".join(map(str, parse)) if isinstance(parse, dict) else shorten(parse)
        raise RecordError(
            f"{location}: Donut's gt_parse of {keys}: fields of a form, and no text_sequence; "
            "give the text of the page, or accept_answers: [json] to learn the JSON"
        )
    return {**row, key: parse["text_sequence"]}


def _donut(row: dict, location: str, root: str) -> Record:
    """Donut's rows: a picture and its ground_truth, which _unwrapped has made a text."""
    return _page_row(row, "ground_truth", location, root)


def _nougat(row: dict, location: str, root: str) -> Record:
    """Nougat's rows: a picture, its markdown, and notes."""
    return _page_row({"task": "format", **row}, "markdown", location, root)


def _page_row(row: dict, answer: str, location: str, root: str) -> Record:
    """A row of one picture, called image or file_name, and an answer of another name."""
    kept = {key: value for key, value in row.items() if key not in (answer, *_UNREAD)}
    kept = _table_row({**kept, "text": row[answer]}, location)
    if "images" in kept and not isinstance(kept["images"], list):
        kept["images"] = [kept["images"]]
    return _own(kept, location, root)


def _paddleocr_vl(row: dict, location: str, root: str) -> Record:
    """PaddleOCR-VL's rows for ERNIEKit: image_info names the picture, text_info a question and its answer."""
    form = "ERNIEKit rows have image_info with image_url, and text_info of a mask and a no_mask text"
    images = [item.get("image_url") for item in row["image_info"] or () if isinstance(item, dict)]
    turns = [
        (item.get("tag"), item.get("text")) for item in row.get("text_info") or () if isinstance(item, dict)
    ]
    if [tag for tag, _ in turns] != ["mask", "no_mask"] or not images:
        raise RecordError(f"{location}: {shorten(row)}; {form}")
    prompt, answer = (text for _, text in turns)
    if not isinstance(prompt, str) or prompt.strip() not in _PADDLE_PROMPTS:
        known = ", ".join(_PADDLE_PROMPTS)
        raise RecordError(
            f"{location}: the question {shorten(prompt)} of an ERNIEKit row; expected one of {known}"
        )
    task = row.get("task") or _PADDLE_PROMPTS[prompt.strip()]
    return Record(_opened(root, images, location), task, answer, location=location)


def _reader_of(row: Container[str]) -> Callable[[dict, str, str], Record] | None:
    """What reads a row with these keys, if it is not our own form."""
    keys = (key for key in READERS if key in row and not (key in _ANSWERS and "text" in row))
    return next((READERS[key] for key in keys), None)


# By the key that tells the format; rows with none of these are our own.
READERS: dict[str, Callable[[dict, str, str], Record]] = {
    "conversations": _conversation,
    "messages": _messages,
    "query": _query,
    "image_info": _paddleocr_vl,
    "ground_truth": _donut,
    "markdown": _nougat,
}
_ANSWERS = ("ground_truth", "markdown")  # which are an answer only where no text stands beside them
_UNREAD = ("meta", "id", "split", "pdf", "page")

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


def _swift(row: dict, asked: object, answer: object, location: str, root: str) -> Record:
    for key, advice in _SWIFT_REFUSED.items():
        if row.get(key):
            raise RecordError(f"{location}: {key} is {shorten(row[key])}; {advice}")
    for name, value in (("question", asked), ("answer", answer)):
        if not isinstance(value, str):
            raise RecordError(f"{location}: the {name} is {shorten(value)}; expected a string")
    listed = row.get("images") or row.get("image") or []
    images = _opened(root, [listed] if isinstance(listed, (str, bytes, dict)) else listed, location)
    if asked.count(_IMAGE) != len(images):
        marks = f"{asked.count(_IMAGE)} {_IMAGE}"
        raise RecordError(f"{location}: {marks} for {len(images)} image(s); expected one {_IMAGE} an image")
    return _asked(asked, answer, images, location)


def _asked(asked: str, answer: str, images: tuple, location: str) -> Record:
    """The record behind a query in the prompt's words; a box in these is in thousandths."""
    question = _plain_question(asked.replace(_IMAGE, "").lstrip("\n"))
    task, box, color = prompts.parse_question(question)
    unit = "pixel" if box is None else "thousandth"
    box = None if box is None else tuple(box)
    return Record(images, task, answer, box, color, unit, location=location)


def _plain_question(question: str) -> str:
    """The question with the last space that the paper's code has, and PaddleMIX's published one has not."""
    words = re.sub(r"^\[[^]]*\] ", "", question)
    if words in prompts.WORDS.values() or f"{words} " not in prompts.WORDS.values():
        return question
    tell_once(f"questions such as {words!r} lack the last space of GOT's own; read as {words + ' '!r}")
    return f"{question} "


def _flat_content(content: object, images: list) -> object:
    """The text of a message in parts, as OpenAI's form has it; the pictures in it are added to `images`."""
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return content
    text = ""
    for part in content:
        kind = part.get("type")
        named = part.get("image", part.get("image_url"))
        if kind in ("image", "image_url"):
            images += [named.get("url") if isinstance(named, dict) and "url" in named else named]
            text += _IMAGE
        elif kind == "text" and isinstance(part.get("text"), str):
            text += part["text"]
        else:
            return content
    return text


def _turns(
    turns: object, location: str, key: str, names: Sequence[str], speakers: Sequence[str]
) -> list[str]:
    """The two texts of a conversation of one question and one answer."""
    speaker, text_key = names
    if isinstance(turns, dict) and all(isinstance(values, list) for values in turns.values()):
        turns = [dict(zip(turns, turn, strict=False)) for turn in zip(*turns.values(), strict=False)]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise RecordError(f"{location}: {key} is {shorten(turns)}; expected a list of turns")
    if len(turns) > 2 and turns[0].get(speaker) == speakers[0]:
        raise RecordError(
            f"{location}: {len(turns)} turns; expected one question and one answer, no further rounds yet"
        )
    sides = tuple(turn.get(speaker) for turn in turns)
    if sides != speakers:
        named = ", ".join(map(str, sides)) or "nobody"
        raise RecordError(
            f"{location}: turns of {named}; expected one of {speakers[0]}, then one of {speakers[1]}"
        )
    for turn in turns:
        if not isinstance(turn.get(text_key), str):
            raise RecordError(
                f"{location}: the {text_key} of {turn[speaker]} is {shorten(turn.get(text_key))}; "
                "expected a string"
            )
    return [turn[text_key] for turn in turns]


def _expanded(paths: tuple, location: str) -> tuple:
    """A single folder replaced by the pictures in it, in natural order."""
    if len(paths) > 1 or isinstance(paths[0], EncodedImage):
        return paths
    if paths[0].lower().endswith(pictures.SUFFIXES) or not os.path.isdir(paths[0]):
        return paths
    files = tuple(pictures.image_files(paths[0]))
    if not files:
        raise RecordError(
            f"{location}: no pictures in the folder {paths[0]}; expected tiles or pages as PNG files"
        )
    return files


def _opened(root: str, listed: object, location: str) -> tuple[str | EncodedImage, ...]:
    """Pictures as a record has them: paths joined with their folder, or bytes with a name."""
    if not isinstance(listed, list):
        raise RecordError(f"{location}: images is {shorten(listed)}; expected a list of paths, even of one")
    images = [_encoded(image, index) for index, image in enumerate(listed)]
    check_images(location, images)
    return tuple(remote_files.join(root, image) if isinstance(image, str) else image for image in images)


def _is_file(path: str) -> bool:
    return remote_files.cache().exists(path) if remote_files.is_url(path) else os.path.isfile(path)


def _encoded(image: object, index: int) -> object:
    """The picture of a cell, which Hugging Face keeps as bytes, path, or both."""
    if isinstance(image, bytes):
        return EncodedImage(f"images[{index}]", image)
    if isinstance(image, dict) and {"bytes", "path"} >= set(image):
        if isinstance(image.get("bytes"), bytes):
            return EncodedImage(image.get("path") or f"images[{index}]", image["bytes"])
        return image.get("path") if image.get("bytes") is None else image
    return image


def _parsed(value: object) -> object:
    """A list that a table or CSV file holds as JSON; what is none stays, and is refused by the record."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return value
