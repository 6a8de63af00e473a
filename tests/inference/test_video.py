"""Videos made here by PyAV: frames where they change, cues with times, and infer.py on a clip."""

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

import infer
from got_train.errors import InferenceError
from got_train.inference import video
from got_train.inference.video import Cue, Frame, clock, cues, frames, written

from .test_reading import tiny_checkpoint

av = pytest.importorskip("av")


def clip(path, texts, seconds=2, rate=5, size=(320, 192)):
    """A video that shows each text for so many seconds, on a ground that is never quite still."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.bit_rate = 4_000_000  # or a change would come in several steps
        for text in texts:
            page = Image.new("RGB", size, "white")
            ImageDraw.Draw(page).text((20, 80), text, fill="black", font_size=28)
            for _ in range(seconds * rate):
                noisy = np.asarray(page, np.int16) + random.integers(-3, 4, (size[1], size[0], 1))
                picture = np.clip(noisy, 0, 255).astype(np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_a_frame_is_given_where_the_picture_changes_and_only_there(tmp_path):
    found = list(frames(clip(tmp_path / "clip.mp4", ["first line", "second line", "third"])))
    assert [frame.start for frame in found] == pytest.approx([0, 2, 4], abs=0.5)
    assert [frame.end for frame in found[:-1]] == [frame.start for frame in found[1:]]
    assert found[-1].end == pytest.approx(6, abs=0.5)
    for frame in found:
        assert frame.image.size == (320, 192)
    assert np.abs(np.asarray(found[0].image, np.int16) - np.asarray(found[1].image)).max() > 100


def test_a_text_that_stays_is_one_cue_in_its_surest_reading():
    read = [
        (Frame(0, 1, None), "", 0.9),
        (Frame(1, 2, None), "The cat sat on the nat", 0.4),
        (Frame(2, 3.5, None), "The cat  sat on the mat", 0.8),
        (Frame(3.5, 4, None), "A dog", 0.7),
        (Frame(4, 5, None), " ", 0.9),
        (Frame(5, 6, None), "A dog", 0.6),
    ]
    assert list(cues(read)) == [
        Cue(1, 3.5, "The cat  sat on the mat", 0.8),
        Cue(3.5, 4, "A dog", 0.7),
        Cue(5, 6, "A dog", 0.6),
    ]


def test_cues_as_text_json_and_srt():
    found = [Cue(0, 2.5, "one\n\ntwo", 0.5), Cue(3661.0004, 3662, "three", 0.25)]
    assert written(found, "text") == (
        "[00:00:00.000 - 00:00:02.500]\none\n\ntwo\n\n[01:01:01.000 - 01:01:02.000]\nthree\n"
    )
    assert written(found, "srt") == (
        "1\n00:00:00,000 --> 00:00:02,500\none\ntwo\n\n2\n01:01:01,000 --> 01:01:02,000\nthree\n"
    )
    rows = [json.loads(line) for line in written(found, "json").splitlines()]
    assert rows[0] == {"start": 0, "end": 2.5, "text": "one\n\ntwo", "confidence": 0.5}
    assert clock(59.9999) == "00:01:00.000"


def test_files_that_are_no_video_are_refused(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"no video at all")
    with pytest.raises(InferenceError, match="a.mp4: cannot be read"):
        list(frames(tmp_path / "a.mp4"))
    with av.open(str(tmp_path / "b.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(InferenceError, match="b.wav: no video in it"):
        list(frames(tmp_path / "b.wav"))


def test_infer_reads_each_changed_frame_once_as_srt_and_json(tmp_path, capfd):
    path = clip(tmp_path / "clip.mp4", ["first line", "second line"])
    model = tiny_checkpoint(tmp_path / "model")
    start = [
        "--model_name_or_path",
        str(model),
        "--no-cpu-tuning",
        "--max-new-tokens",
        "8",
        "--video-file",
        str(path),
    ]
    assert infer.main([*start, "--json"]) == 0
    out, err = capfd.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert err.count(" tokens, ") == 2
    assert f"{path} at 00:00:02." in err
    assert rows[0]["start"] == 0
    assert rows[-1]["end"] == pytest.approx(4, abs=0.5)
    assert infer.main([*start, "--srt", "--output-dir", str(tmp_path / "out")]) == 0
    srt = (tmp_path / "out" / "clip.srt").read_text(encoding="utf-8")
    assert srt.startswith("1\n00:00:00,000 --> 00:00:")
    assert srt.count(" --> ") == len(rows)


def test_what_was_read_before_a_damaged_frame_is_kept(tmp_path, capfd, monkeypatch):
    def broken(path):
        for start in (0, 2):
            yield Frame(start, start + 2, Image.new("RGB", (64, 64), "white" if start else "black"))
        raise InferenceError(f"{path}: cannot be read (damage); expected a whole video file such as MP4")

    monkeypatch.setattr(video, "frames", broken)
    (tmp_path / "a.mp4").touch()
    start = ["--model_name_or_path", tiny_checkpoint(tmp_path / "model"), "--no-cpu-tuning", "--json"]
    code = infer.main([*map(str, start), "--max-new-tokens", "8", "--video-file", str(tmp_path / "a.mp4")])
    out, err = capfd.readouterr()
    assert (code, json.loads(out.splitlines()[0])["start"]) == (1, 0)
    assert err.endswith(
        f"  {tmp_path}/a.mp4: cannot be read (damage); expected a whole video file such as MP4\n"
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--render"], "--video-file: --render is for pages"),
        (["--ocr_type", "spot"], "--video-file: --ocr-type spot is for pages"),
        (["--srt", "--json"], "--srt: does not go with --json"),
        ([], "--video-file: no file absent.mp4"),
    ],
)
def test_flags_that_do_not_go_with_a_video_are_refused(flags, message, capfd):
    code = infer.main(["--model_name_or_path", "x", "--video-file", "absent.mp4", *flags])
    assert (code, capfd.readouterr().err.startswith(f"infer: {message}")) == (2, True)


def test_without_pyav_the_reason_is_told(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert video.unavailable() == 'PyAV is not installed; use `pip install -e ".[video]"` in the clone'
