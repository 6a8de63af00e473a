"""From files to answers: pages found, prompts and pixels as put by hand, batches, streams, failures."""

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image, ImageDraw

import got_train.generation.generate as decoding
from got_train import images, prompts
from got_train.checkpoint.weights import save_model
from got_train.data.records import Record
from got_train.errors import InferenceError
from got_train.inference.reader import (
    FailedRequest,
    OcrPipeline,
    OcrRequest,
    OcrResult,
    Page,
    TextStreamer,
    find_pages,
    load_pipeline,
)
from got_train.modeling.config import DecoderConfig, GotConfig, VisionConfig
from got_train.modeling.got import Got
from got_train.tokenizer import BYTES, OptTokenizer, train_tokenizer
from tests.tiny_models import ENCODER

SIDE, VIEW_TOKENS = 64, 4


def tiny_checkpoint(folder, tokenizer=None, **decoder):
    """A random model of 32 numbers a word that reads views of 64 x 64 pixels, with a tokenizer of 270 ids."""
    tokenizer = tokenizer or train_tokenizer(["the cat sat on the mat, the cat sat on the hat " * 4], 270)
    sizes = {"width": 32, "layers": 2, "heads": 4, "mlp_width": 48, "max_positions": 512, "init_std": 0.3}
    paddle.seed(11)
    config = GotConfig(
        vision=VisionConfig(**ENCODER),
        decoder=DecoderConfig(vocab_size=tokenizer.size, **{**sizes, **decoder}),
        image_token=tokenizer.image_id,
        pad_token=tokenizer.pad_id,
        stop_tokens=tokenizer.stop_ids,
        prompt_template="stage1" if decoder.get("kind") == "opt" else "repo",
    )
    save_model(Got(config), folder, tokenizer=tokenizer)
    return folder


def picture(seed=0, size=(90, 60)):
    made = Image.new("RGB", size, "white")
    ImageDraw.Draw(made).text((5, 5 + 3 * seed), f"page {seed} " * 3, fill="black")
    return made


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return load_pipeline(tiny_checkpoint(tmp_path_factory.mktemp("checkpoint")), max_new_tokens=12)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """page1, page2, page10, a PDF of 3 pages and a TIFF of 2."""
    folder = tmp_path_factory.mktemp("scans")
    for number in (1, 2, 10):
        picture(number).save(folder / f"page{number}.png")
    picture(1).save(folder / "doc.pdf", save_all=True, append_images=[picture(2), picture(3)])
    picture(4).save(folder / "fax.tiff", save_all=True, append_images=[picture(5)])
    return folder


def question(path, task="ocr", **asked):
    return OcrRequest((Page(str(path)),), task, **asked)


def by_hand(reader, prompt, views, ngram=20):
    """What the model reads, put together here from prompt, picture and generate."""
    ids = reader.tokenizer.encode_prompt(prompt)
    stops = reader.tokenizer.stop_ids
    made = decoding.generate(
        reader.model,
        np.array([ids]),
        views,
        max_new_tokens=12,
        eos_token_ids=stops,
        no_repeat_ngram=ngram,
    )
    return reader.tokenizer.decode(made.ids[0]).strip(), made.ids[0]


def test_a_folder_is_read_in_natural_order_with_its_pdfs(scans):
    names = [str(page).removeprefix(f"{scans}/") for page in find_pages([scans])]
    pdf = [f"doc.pdf page {number}" for number in (1, 2, 3)]
    assert names == [*pdf, "fax.tiff page 1", "fax.tiff page 2", "page1.png", "page2.png", "page10.png"]


def test_patterns_files_and_page_numbers_choose_pages(scans):
    pattern, pdf = str(scans / "page*.png"), scans / "doc.pdf"
    assert [page.name for page in find_pages([pattern])] == ["page1", "page2", "page10"]
    assert [page.name for page in find_pages([pdf], [3, 1])] == ["doc_0003", "doc_0001"]
    assert [page.name for page in find_pages([scans / "page2.png", pdf], [2])] == ["page2", "doc_0002"]


def test_every_kind_of_page_opens_as_its_picture(scans):
    opened = {page.name: page.open() for page in find_pages([scans])}
    assert np.array_equal(opened["page10"], picture(10))
    assert np.array_equal(opened["fax_0002"], picture(5))
    assert opened["doc_0003"].size == (180, 120)  # Pillow writes 72 dpi, drawn at 144
    different = np.abs(np.float32(opened["doc_0003"].resize((90, 60))) - np.float32(picture(3))).mean()
    assert different < 20, different


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("absent.png", "absent.png: no such file; expected a picture, a PDF"),
        ("*.jpeg", r"\*.jpeg: no such file"),
        ("empty", "empty: no picture and no PDF in this folder"),
    ],
)
def test_what_is_not_there_is_refused(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InferenceError, match=message):
        find_pages([tmp_path / name])


def test_page_numbers_without_any_pdf_are_refused(scans):
    with pytest.raises(InferenceError, match="^pages: .*page1.png has no pages to pick"):
        find_pages([scans / "page1.png"], [1, 2])


@pytest.mark.parametrize(
    ("task", "asked", "words"),
    [
        ("ocr", {}, "OCR: "),
        ("format", {}, "OCR with format: "),
        ("ocr", {"box": [9, 6, 45, 30]}, "[100, 100, 500, 500] OCR: "),
        ("ocr", {"box": (100, 100, 500, 500), "box_unit": "thousandth"}, "[100, 100, 500, 500] OCR: "),
        ("format", {"color": "red"}, "[red] OCR with format: "),
    ],
)
def test_one_view_is_read_as_by_hand(reader, scans, task, asked, words):
    answer = next(reader.read([question(scans / "page1.png", task, **asked)]))
    prompt = prompts.build_prompt("ocr", view_tokens=VIEW_TOKENS).replace("OCR: ", words)
    text, ids = by_hand(reader, prompt, images.view(picture(1), SIDE)[None])
    assert (answer.text, answer.ids) == (text, ids)
    assert len(answer.log_probs) == len(ids)


def test_tiles_are_cut_from_one_picture_and_the_thumbnail_is_last(reader, scans):
    tiles = images.tile(picture(1), 1, 6, side=SIDE)
    assert len(tiles) == 7  # 90 x 60 gives 3 x 2
    views = np.stack([np.asarray(tile) for tile in tiles])
    for task, words in (("multi_crop", "OCR with format upon"), ("multi_crop_ocr", "OCR upon")):
        answer = next(reader.read([question(scans / "page1.png", task)]))
        prompt = prompts.build_prompt(task, views=7, view_tokens=VIEW_TOKENS)
        assert words in prompt
        assert answer.ids == by_hand(reader, prompt, views, ngram=0)[1]
    assert images.views([picture(1)], "multi_crop", SIDE, 1).shape == (1, SIDE, SIDE, 3)
    assert len(images.views([picture(1), picture(2)], "multi_crop", SIDE, 6)) == 2  # tiles already


def test_several_pages_make_one_sample(reader, scans):
    pages = tuple(find_pages([scans / "doc.pdf"]))
    answer = next(reader.read([OcrRequest(pages, "multi_page")]))
    views = np.stack([images.view(page.open(), SIDE) for page in pages])
    prompt = prompts.build_prompt("multi_page", views=3, view_tokens=VIEW_TOKENS)
    assert answer.ids == by_hand(reader, prompt, views, ngram=0)[1]
    assert str(answer.request) == f"{scans}/doc.pdf page 1 and 2 more"


def test_a_record_asks_what_it_says(reader, scans):
    record = Record((str(scans / "page1.png"),), "ocr", "answer", box=(9, 6, 45, 30))
    direct = question(scans / "page1.png", box=(9, 6, 45, 30))
    assert OcrRequest.of_record(record) == direct


def test_batches_of_any_size_give_the_answers_in_order(reader, scans):
    several = ((1, "ocr"), (2, "multi_crop"), (10, "format"), (2, "ocr"))
    questions = [question(scans / f"page{number}.png", task) for number, task in several] * 2
    single = list(reader.read(questions))
    for size in (3, 16):
        answers = list(reader.read(questions, batch_size=size))
        assert [answer.request for answer in answers] == questions
        assert [answer.ids for answer in answers] == [answer.ids for answer in single]


def test_a_page_that_fails_is_named_and_the_others_are_read(reader, scans, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes((scans / "page1.png").read_bytes()[:60])
    late = Page(str(scans / "doc.pdf"), 7)
    questions = [
        question(scans / "page1.png"),
        question(broken),
        question(scans / "page2.png", box=[0, 0, 500, 20]),
        OcrRequest((late,), "ocr"),
        OcrRequest((Page(str(scans / "fax.tiff"), 3),), "ocr"),
        question(scans / "page10.png"),
    ]
    results = list(reader.read(questions, batch_size=4))
    assert [type(result) for result in results] == [
        OcrResult,
        FailedRequest,
        FailedRequest,
        FailedRequest,
        FailedRequest,
        OcrResult,
    ]
    causes = [
        result.cause.replace(f"{scans}/", "") for result in results if isinstance(result, FailedRequest)
    ]
    assert causes[0].startswith(f"{broken}: damaged or cut off")
    assert causes[1].startswith("page2.png: box: [0, 0, 500, 20] leaves the image")
    assert causes[2].startswith("doc.pdf: no page 7; expected 1 to 3")
    assert causes[3].startswith("fax.tiff page 3: no such page")


def test_a_prompt_longer_than_the_decoder_is_a_failure(reader, scans):
    pages = tuple(find_pages([scans / "doc.pdf"])) * 40
    result = next(reader.read([OcrRequest(pages, "multi_page")]))
    assert "a prompt of" in result.cause
    assert result.cause.endswith("tokens; the decoder has 512 positions")


def test_a_damaged_pdf_fails_when_its_turn_comes(reader, scans, tmp_path):
    damaged = tmp_path / "damaged.pdf"
    damaged.write_bytes(b"%PDF-1.7 nothing")
    pages = find_pages([damaged, scans / "page1.png"])
    results = list(reader.read(OcrRequest((page,), "ocr") for page in pages))
    assert results[0].cause.startswith(f"{damaged}: not a PDF, damaged or without pages")
    assert isinstance(results[1], OcrResult)


def test_streamed_pieces_join_to_the_answer(reader, scans):
    questions = [question(scans / f"page{number}.png") for number in (1, 2, 10)]
    heard = {}
    for size in (1, 3):
        answers = reader.read(questions, size, lambda asked, text: heard.setdefault(asked, []).append(text))
        for answer in answers:
            assert "".join(heard.pop(answer.request, [])) == answer.text


CAT, HAT = "\u732b", "\u5e3d\u5b50"


@pytest.mark.parametrize(
    "text", ["  the cat\n\n sat \n", f"{CAT}  \U0001f408{HAT} <lb> x <l", "\t\n", "a\ufffdb"]
)
def test_a_stream_gives_every_character_once_and_takes_none_back(reader, text):
    stream = TextStreamer(reader.tokenizer)
    given = ""
    for token in reader.tokenizer.encode(text):
        given += stream.add(token)
        assert text.strip().startswith(given)
    assert given + stream.flush(text.strip()) == text.strip()


def test_a_stream_holds_back_half_a_character(reader):
    stream = TextStreamer(reader.tokenizer)
    assert [stream.add(token) for token in "\u00e9!".encode()] == ["", "\u00e9", "!"]


def answer_of(reader, text, log_probs):
    ids = [*reader.tokenizer.encode(text), reader.tokenizer.end_id]
    each = [log_probs[place % len(log_probs)] for place in range(len(ids))]
    return OcrResult(question("x"), text, ids, each, "stop", 1.0)


def test_confidence_is_the_geometric_mean_and_the_lowest_is_told(reader):
    answer = answer_of(reader, "xyz", [math.log(0.9), math.log(0.4)])  # three letters and the end
    assert answer.confidence == pytest.approx((0.9 * 0.4 * 0.9 * 0.4) ** 0.25)
    assert answer.lowest == pytest.approx(0.4)


def test_pieces_join_the_tokens_of_one_character(reader):
    answer = answer_of(reader, f"x{CAT}y", [math.log(0.5)])  # one byte, three bytes, one byte, the end
    pieces = reader.token_texts(answer)
    assert [text for text, _ in pieces] == ["x", CAT, "y"]
    assert [probability for _, probability in pieces] == pytest.approx([0.5, 0.125, 0.5])


def test_the_end_token_of_the_tokenizer_stops_an_answer(reader, scans):
    free = next(reader.read([question(scans / "page1.png")]))
    assert free.finished == "length"
    assert len(free.ids) == 12
    end = reader.tokenizer.end_id
    with paddle.no_grad():
        head = reader.model.decoder.head
        before = head.clone()
        head[end] = head[free.ids[3]] * 1.5  # now the end is more probable than that token
    try:
        stopped = next(reader.read([question(scans / "page1.png")]))
    finally:
        head.set_value(before)
    assert stopped.finished == "stop"
    assert stopped.ids[-1] == end
    assert reader.tokenizer.decode(stopped.ids).strip() == stopped.text


def test_space_around_an_answer_is_stripped_as_the_original_does(reader, scans, monkeypatch):
    ids = [*reader.tokenizer.encode("\n  the cat \n"), reader.tokenizer.end_id]
    made = decoding.Generated([ids], [[0.0] * len(ids)], ["stop"])
    monkeypatch.setattr(decoding, "generate", lambda *_, **__: made)
    answer = next(reader.read([question(scans / "page1.png")]))
    assert (answer.text, answer.ids, answer.finished) == ("the cat", ids, "stop")


def test_a_checkpoint_of_stage_1_reads_in_its_own_words_and_knows_ocr_only(scans, tmp_path):
    words = ["<s>", "<pad>", "</s>", *BYTES]
    tokenizer = OptTokenizer({word: number for number, word in enumerate(words)}, [])
    stage1 = load_pipeline(tiny_checkpoint(tmp_path / "stage1", tokenizer, kind="opt"), max_new_tokens=12)
    read, refused = stage1.read([question(scans / "page1.png"), question(scans / "page1.png", "format")], 2)
    ids = [tokenizer.image_id] * VIEW_TOKENS + [words.index(word) for word in ("</s>", *"OCR:")]
    views = images.view(picture(1), SIDE)[None]
    stops = (words.index("\u010a"), 2)  # newline, </s>
    made = decoding.generate(stage1.model, np.array([ids]), views, None, 12, stops, 20)
    assert read.ids == made.ids[0]
    assert refused.cause.endswith("task: the stage1 prompt template knows no format; it has ocr only")


def test_a_tokenizer_of_another_model_is_refused(reader):
    other = train_tokenizer(["ab " * 9], 264)
    with pytest.raises(InferenceError, match="^tokenizer: 264 ids with the image at 263; the model has 270"):
        OcrPipeline(reader.model, other)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(InferenceError, match="no such folder; a checkpoint has"):
        load_pipeline(tmp_path / "absent")


def test_pages_are_found_without_paddle():
    code = "import sys, got_train.inference.reader; sys.exit('paddle' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


def test_questions_of_like_length_share_a_batch_and_answers_keep_their_order(reader, scans, monkeypatch):
    several = [(1, "ocr"), (2, "multi_crop"), (10, "ocr"), (2, "multi_crop"), (2, "ocr"), (1, "multi_crop")]
    questions = [question(scans / f"page{number}.png", task) for number, task in several]
    single = [answer.ids for answer in reader.read(questions)]
    views, generate = [], decoding.generate

    def watched(model, ids, pixels, *rest, **options):
        views.append(len(pixels))
        return generate(model, ids, pixels, *rest, **options)

    monkeypatch.setattr(decoding, "generate", watched)
    answers = list(reader.read(questions, batch_size=3))
    assert views == [21, 3]  # three times 7 tiles, three pages in one view
    assert [answer.request for answer in answers] == questions
    assert [answer.ids for answer in answers] == single


def test_an_answer_may_fill_what_the_prompt_leaves_of_8192_and_at_least_4096(reader):
    free = dataclasses.replace(reader, max_new_tokens=None)
    assert free.answer_limit(287) == 512 - 287
    config = reader.model.config.decoder
    before = config.max_positions
    object.__setattr__(config, "max_positions", 32768)
    try:
        assert [free.answer_limit(tokens) for tokens in (300, 6000, 30000)] == [7892, 4096, 2768]
        assert reader.answer_limit(300) == 12
    finally:
        object.__setattr__(config, "max_positions", before)


@pytest.mark.parametrize(("end", "kept"), [("stop", "retried"), ("length", "loop"), ("loop", "loop")])
def test_a_page_that_loops_is_read_again_without_repetition(reader, scans, monkeypatch, end, kept):
    asked, ids = [], reader.tokenizer.encode("ab")

    def generate(model, rows, *_, no_repeat_ngram, **__):
        asked.append((len(rows), no_repeat_ngram))
        if len(asked) > 1:
            return decoding.Generated([ids], [[-0.5, -0.5]], [end])
        return decoding.Generated([ids[:1]] * 2, [[0.0]] * 2, ["stop", "loop"])

    monkeypatch.setattr(decoding, "generate", generate)
    questions = [question(scans / f"page{number}.png", "multi_crop") for number in (1, 2)]
    answers = list(dataclasses.replace(reader, retry_loops=True).read(questions, batch_size=2))
    assert [(rows, rule.size) for rows, rule in asked] == [(2, 0), (1, 20)]
    assert [answer.finished for answer in answers] == ["stop", kept]
    assert answers[1].text == ("ab" if end == "stop" else "a")
    assert answers[1].log_probs == ([-0.5, -0.5] if end == "stop" else [0.0])


def test_what_builds_tables_is_spared_and_words_are_not(reader):
    rule = dataclasses.replace(reader, allow_table_repeats=True, ngram_window=5)._rule(20)
    spared = {*rule.exempt_tokens}
    assert {*reader.tokenizer.encode(" & | 0 -- . \\\\ \n<td></td>\\hline")} <= spared
    assert not {*reader.tokenizer.encode("zgyk")} & spared
    assert not {*reader.tokenizer.stop_ids} & spared
    assert rule.window == 20  # a smaller one would hold no n-gram
    assert reader._rule(20).exempt_tokens == frozenset()


def test_a_late_page_of_a_tiff_is_opened_alone(scans, monkeypatch):
    decoded, decode = [], images._decode
    monkeypatch.setattr(
        images, "_decode", lambda image, where, file: decoded.append(where) or decode(image, where, file)
    )
    Page(str(scans / "fax.tiff"), 2).open()
    assert decoded == [f"{scans}/fax.tiff frame 2"]
