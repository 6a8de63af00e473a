"""Whatever got init writes, got check accepts and a run takes: for every kind of folder and file it reads."""

import io
import json
from pathlib import Path

import pyarrow
import pytest
from PIL import Image, ImageDraw, ImageFont
from pyarrow import parquet

from got_train.cli import check, init
from got_train.config.loader import load_config
from got_train.data.collator import Collator
from got_train.tokenizer import load_tokenizer
from got_train.training.run import build_mixture

NANO = Path(__file__).resolve().parents[2] / "configs/nano/weights/stage3"
WORDS = ("harbour", "orange", "window", "letter", "garden", "music", "paper", "stone")
PAGES = [[f"{word} {other}", other] for word, other in zip(WORDS, WORDS[3:] + WORDS[:3], strict=True)]
BOXES = ((10, 10, 118, 40), (10, 60, 90, 90))
QUESTION = "<image>\nOCR: "


def picture(number):
    image = Image.new("L", (128, 128), 255)
    for text, box in zip(PAGES[number], BOXES, strict=True):
        ImageDraw.Draw(image).text(box[:2], text, 0, font=ImageFont.load_default(16 + number))
    return image


def text(number):
    return "\n".join(PAGES[number])


def png(number):
    buffer = io.BytesIO()
    picture(number).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": f"p{number}.png"}


def rows(row):
    """A function that writes a line a page, and the pictures beside it."""

    def write(folder, name="rows.jsonl"):
        lines = [json.dumps(row(number)) for number in range(len(PAGES))]
        (folder / name).write_text("\n".join(lines), encoding="utf-8")

    return write


def as_list(row):
    def write(folder):
        content = [row(number) for number in range(len(PAGES))]
        (folder / "rows.json").write_text(json.dumps(content), encoding="utf-8")

    return write


def each(suffix, content):
    """A function that writes a file a page beside its picture."""

    def write(folder):
        for number in range(len(PAGES)):
            (folder / f"p{number}{suffix}").write_text(content(number), encoding="utf-8")

    return write


def whole(name, content):
    return lambda folder: (folder / name).write_text(content(), encoding="utf-8")


def table(column, value=text):
    def write(folder):
        for place in folder.glob("*.png"):
            place.unlink()
        for shard in (0, 1):
            numbers = range(4 * shard, 4 * shard + 4)
            content = {
                "image": [png(number) for number in numbers],
                column: [value(number) for number in numbers],
            }
            parquet.write_table(pyarrow.table(content), folder / f"train-0000{shard}-of-00002.parquet")

    return write


def lines_of(number):
    return [
        {"text": written, "transcription": written, "box": list(box), "points": corners(box)}
        for written, box in zip(PAGES[number], BOXES, strict=True)
    ]


def corners(box):
    x1, y1, x2, y2 = box
    return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]


def page_xml(number):
    lines = "".join(
        f'<TextLine id="l{place}"><Coords points="{" ".join(f"{x},{y}" for x, y in line["points"])}"/>'
        f"<TextEquiv><Unicode>{line['text']}</Unicode></TextEquiv></TextLine>"
        for place, line in enumerate(lines_of(number))
    )
    return (
        f'<PcGts><Page imageFilename="p{number}.png" imageWidth="128" imageHeight="128"><TextRegion id="r">'
        f'<Coords points="0,0 127,0 127,127 0,127"/>{lines}</TextRegion></Page></PcGts>'
    )


def alto(number):
    lines = "".join(
        f'<TextLine HPOS="{x1}" VPOS="{y1}" WIDTH="{x2 - x1}" HEIGHT="{y2 - y1}">'
        + "".join(
            f'<String CONTENT="{word}" HPOS="{x1}" VPOS="{y1}" WIDTH="9" HEIGHT="9"/>'
            for word in line.split()
        )
        + "</TextLine>"
        for line, (x1, y1, x2, y2) in zip(PAGES[number], BOXES, strict=True)
    )
    page = f'<Page WIDTH="128" HEIGHT="128"><PrintSpace>{lines}</PrintSpace></Page>'
    return f"<alto><Layout>{page}</Layout></alto>"


def hocr(number):
    lines = "".join(
        f'<span class="ocr_line" title="bbox {" ".join(map(str, box))}">{line}</span>'
        for line, box in zip(PAGES[number], BOXES, strict=True)
    )
    page = f'<div class="ocr_page" title="image p{number}.png; bbox 0 0 128 128">{lines}</div>'
    return f"<html><body>{page}</body></html>"


def icdar(number):
    return "\n".join(
        ",".join(str(value) for point in line["points"] for value in point) + f",{line['text']}"
        for line in lines_of(number)
    )


def coco():
    pictures = [
        {"id": number, "file_name": f"p{number}.png", "width": 128, "height": 128} for number in range(8)
    ]
    notes = [
        {"id": 9 * number + place, "image_id": number, "bbox": [x1, y1, x2 - x1, y2 - y1], "text": written}
        for number in range(8)
        for place, (written, (x1, y1, x2, y2)) in enumerate(zip(PAGES[number], BOXES, strict=True))
    ]
    return json.dumps({"images": pictures, "annotations": notes})


def paddle(number):
    kept = [{key: line[key] for key in ("transcription", "points")} for line in lines_of(number)]
    return f"p{number}.png\t{json.dumps(kept)}"


def labelme(number):
    shapes = [
        {"label": line["text"], "points": line["points"], "shape_type": "polygon"}
        for line in lines_of(number)
    ]
    return json.dumps(
        {"shapes": shapes, "imagePath": f"p{number}.png", "imageHeight": 128, "imageWidth": 128}
    )


def studio():
    tasks = []
    for number in range(8):
        result = [
            {
                "id": str(place), "original_width": 128, "original_height": 128, "type": "textarea",
                "value": {
                    "x": x1 / 1.28, "y": y1 / 1.28, "width": (x2 - x1) / 1.28, "height": (y2 - y1) / 1.28,
                    "text": [written],
                },
            }
            for place, (written, (x1, y1, x2, y2)) in enumerate(zip(PAGES[number], BOXES, strict=True))
        ]  # fmt: skip
        tasks.append({"data": {"ocr": f"p{number}.png"}, "annotations": [{"result": result}]})
    return json.dumps(tasks)


def funsd(number):
    form = [{"box": line["box"], "text": line["text"], "words": []} for line in lines_of(number)]
    return json.dumps({"form": form})


def all_pages(line):
    return lambda: "\n".join(map(line, range(8)))


def conversation(number):
    turns = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": text(number)}]
    return {"image": f"p{number}.png", "conversations": turns}


def messages(number):
    turns = [{"role": "user", "content": "<image>OCR: "}, {"role": "assistant", "content": text(number)}]
    return {"images": [f"p{number}.png"], "messages": turns}


def ernie(number):
    asked = [{"text": "OCR:", "tag": "mask"}, {"text": text(number), "tag": "no_mask"}]
    return {"image_info": [{"image_url": f"p{number}.png"}], "text_info": asked}


KINDS = {
    "pictures with texts": each(".txt", text),
    "records": rows(lambda number: {"images": [f"p{number}.png"], "task": "ocr", "text": text(number)}),
    "records.jsonl": lambda folder: rows(
        lambda number: {"images": [f"p{number}.png"], "task": "ocr", "text": text(number)}
    )(folder, "records.jsonl"),
    "image folder": lambda folder: rows(lambda number: {"file_name": f"p{number}.png", "text": text(number)})(
        folder, "metadata.jsonl"
    ),
    "conversations": as_list(conversation),
    "messages": rows(messages),
    "columns": rows(lambda number: {"img_path": f"p{number}.png", "transcription": text(number)}),
    "ERNIEKit": rows(ernie),
    "Nougat": rows(lambda number: {"image": f"p{number}.png", "markdown": f"# {text(number)}"}),
    "CSV": whole("a.csv", lambda: "image,text\n" + all_pages(lambda n: f"p{n}.png,{PAGES[n][0]}")()),
    "CSV with ;": whole(
        "a.csv", lambda: "filename;words\n" + all_pages(lambda n: f"p{n}.png;{PAGES[n][0]}")()
    ),
    "CSV without a head": whole("a.csv", all_pages(lambda n: f"p{n}.png,{PAGES[n][0]}")),
    "parquet": table("text"),
    "Donut": table("ground_truth", lambda n: json.dumps({"gt_parse": {"text_sequence": text(n)}})),
    "PAGE": each(".xml", page_xml),
    "ALTO": each(".xml", alto),
    "hOCR": each(".hocr", hocr),
    "ICDAR": each(".txt", icdar),
    "COCO": whole("instances.json", coco),
    "PaddleOCR detection": whole("Label.txt", all_pages(paddle)),
    "PaddleOCR recognition": whole("rec_gt.txt", all_pages(lambda n: f"p{n}.png\t{PAGES[n][0]}")),
    "LabelMe": each(".json", labelme),
    "Label Studio": whole("export.json", studio),
    "FUNSD": each(".json", funsd),
    "docTR recognition": whole(
        "labels.json", lambda: json.dumps({f"p{n}.png": PAGES[n][0] for n in range(8)})
    ),
}


@pytest.mark.parametrize("split", [False, True], ids=["all", "split"])
@pytest.mark.parametrize("kind", KINDS)
def test_whatever_init_writes_the_check_accepts_and_every_row_makes_a_sample(tmp_path, capsys, kind, split):
    folder, out = tmp_path / "docs", tmp_path / "my.yaml"
    folder.mkdir()
    for number in range(len(PAGES)):
        picture(number).save(folder / f"p{number}.png")
    KINDS[kind](folder)
    flags = ["-o", str(out), "--init-from", str(NANO), "--workers", "0", "--no-measure"]
    code = init.main([str(folder), *flags, *(["--split", "0.25"] if split else [])])
    said = capsys.readouterr()
    assert code == 0, said.out + said.err
    flags = [f"train.output_dir={tmp_path}/run", "--workers", "0", "--no-measure"]
    assert check.main([str(out), *flags]) == 0, capsys.readouterr().out
    config = load_config(out)
    mixture = build_mixture(config)
    assert len(mixture) == (6 if split else 8)
    collator = Collator(
        load_tokenizer(NANO), side=128, view_tokens=4, max_tokens=config.data.max_tokens,
        max_crops=config.data.max_crops,
    )  # fmt: skip
    samples = [collator.sample(mixture[draw]) for draw in range(len(mixture))]
    assert all(len(sample.ids) > 4 for sample in samples)
    answers = {record.text for record in mixture.sources[0]}
    expected = (
        {text(n) for n in range(8)} | {PAGES[n][0] for n in range(8)} | {f"# {text(n)}" for n in range(8)}
    )
    assert answers <= expected and len(answers) == len(mixture)
