"""Fetched packages and the user's texts: what is kept, how it is verified, and on which side it stands."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from data_tools.engines import pdf
from data_tools.text import corpora, packages
from got_train.errors import DataError

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="no dpkg-deb")
LONG = "Some words that make a text long enough to be kept.\n\n" * 60
MANUAL = r""".\" comment
.TH CP 1
.SH NAME
cp \- copy \fIfiles\fP and
directories
.SH DESCRIPTION
.PP
Use
.BR cp (1)
with care.
.nf
code
.fi
.TP
\fB\-a\fR, \-\-archive
The same as before.
"""


def deb(folder: Path, files: dict[str, bytes]) -> Path:
    """A package built by dpkg-deb itself."""
    tree = folder / "tree"
    for name, data in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: some-doc\nVersion: 1.2\nArchitecture: all\nMaintainer: a <a@b>\nDescription: x\n"
    )
    made = folder / "some-doc_1.2_all.deb"
    subprocess.run(["dpkg-deb", "--build", tree, made], check=True, capture_output=True)
    return made


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """apt-get and apt-cache that know one package; the folder holds the hash that they tell."""
    doc = "usr/share/doc/some-doc"
    sayings = "\n%\n".join(f"\x1b[1m\u2502 saying {n}\x1b[0m" for n in range(70))
    made = deb(tmp_path, {
        f"{doc}/copyright": b"License: Expat", f"{doc}/guide-a4.pdf.gz": gzip.compress(b"%PDF guide"),
        f"{doc}/guide-letter.pdf": b"%PDF guide on letter", f"{doc}/guide.txt": LONG.encode(),
        f"{doc}/README.txt": LONG.encode(), f"{doc}/short.txt": b"short", f"{doc}/copy.pdf": b"%PDF guide",
        "usr/share/games/fortunes/sayings": sayings.encode(),
        "usr/share/man/zh_CN/man1/cp.1.gz": gzip.compress((MANUAL + ".PP\n" + "prose " * 500).encode()),
        "usr/share/fonts/truetype/a.ttf": b"font",
    })  # fmt: skip
    programs = tmp_path / "bin"
    programs.mkdir()
    (tmp_path / "hash").write_text(hashlib.sha256(made.read_bytes()).hexdigest())
    get = f'[ "$2" = some-doc ] || {{ echo "E: Unable to locate package $2" >&2; exit 100; }}; cp {made} .'
    (programs / "apt-get").write_text(f"#!/bin/sh\n{get}\n")
    (programs / "apt-cache").write_text(f'#!/bin/sh\necho "SHA256: $(cat {tmp_path / "hash"})"\n')
    for each in programs.iterdir():
        each.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return tmp_path


@needs_dpkg
def test_a_debian_package_gives_pdfs_texts_fonts_and_its_licence_each_document_once(apt: Path) -> None:
    to = apt / "to"
    packages.fetch(["debian:some-doc"], to, said=lambda _: None)
    kept = {
        path.relative_to(to / "some-doc").as_posix()
        for path in (to / "some-doc").rglob("*")
        if path.is_file()
    }
    assert kept == {
        "licence/copyright", "pdf/copy.pdf", "text/guide.txt", "fonts/a.ttf", "text/cp.1.zh_CN.txt",
        "text/sayings-000.txt", "text/sayings-001.txt",
    }  # fmt: skip  # copy.pdf is guide-a4.pdf, byte for byte; the letter twin and README are not wanted
    fetched = packages.read_manifest(to)["some-doc"]
    assert fetched.version == "1.2" and set(fetched.files) == {f"some-doc/{name}" for name in kept}
    for name, digest in fetched.files.items():
        told = subprocess.run(["sha256sum", to / name], capture_output=True, text=True, check=True).stdout
        assert told.split()[0] == digest
    assert (to / "some-doc/text/sayings-001.txt").read_text().startswith("saying 60\n\nsaying 61")
    manual = (to / "some-doc/text/cp.1.zh_CN.txt").read_text().split("\n\n")
    assert manual[:3] == ["NAME", "cp - copy files and directories", "DESCRIPTION"]
    assert manual[3:5] == ["Use cp(1) with care.", "-a, --archive The same as before."]
    assert sorted(path.name for path in to.iterdir()) == ["manifest.json", "some-doc"]


@needs_dpkg
def test_a_package_whose_hash_is_not_the_one_of_the_index_is_not_kept(apt: Path) -> None:
    (apt / "hash").write_text("0" * 64)
    with pytest.raises(DataError, match=r"some-doc 1\.2: SHA-256 is not the one of apt's index"):
        packages.fetch(["debian:some-doc"], apt / "to")
    assert list((apt / "to").iterdir()) == []
    with pytest.raises(DataError, match="apt-get download nowhere: E: Unable to locate"):
        packages.fetch(["debian:nowhere"], apt / "to")


@needs_dpkg
def test_a_changed_or_missing_file_is_refused_when_it_is_used(apt: Path) -> None:
    to = apt / "to"
    packages.fetch(["debian:some-doc"], to, said=lambda _: None)
    packages.fetch(["debian:some-doc"], to, said=lambda _: None)  # there already, and verified
    path = to / "some-doc/text/guide.txt"
    path.write_text(path.read_text().replace("words", "swords"))
    for use in (
        lambda: packages.fetch(["debian:some-doc"], to),
        lambda: corpora.text_folder(to / "some-doc/text", "train"),
        lambda: pdf.find_pages(to, "all"),
    ):
        with pytest.raises(DataError, match=r"guide\.txt: not what was fetched"):
            use()
    path.unlink()
    with pytest.raises(DataError, match=r"guide\.txt: missing"):
        packages.verify(to)
    packages.verify(to / "some-doc/fonts")  # nothing is wrong there


@needs_dpkg
def test_a_pdf_and_its_text_stand_on_one_side_whatever_folder_is_named(apt: Path) -> None:
    to = apt / "to"
    packages.fetch(["debian:some-doc"], to, said=lambda _: None)
    pdf_file, text = to / "some-doc/pdf/guide.pdf", to / "some-doc/text/guide.txt"
    for folder in (to, to / "some-doc", to / "some-doc/text"):
        assert packages.document_name(text, folder) == "some-doc/guide"
    assert packages.document_name(pdf_file, to) == packages.document_name(text, to)
    told = json.loads((to / "manifest.json").read_text())
    told["some-doc"]["held_out"] = True
    (to / "manifest.json").write_text(json.dumps(told))
    assert corpora.side_of(text, to) == corpora.side_of(pdf_file, to) == "test"


def wheel(folder: Path, **changes: bytes) -> Path:
    """A wheel of one table and its licence, with their hashes in RECORD; changes come after the hashes."""
    files = {"tables/data/one.csv": b"a,b\n1,2\n", "tables-2.0.dist-info/LICENSE": b"MIT",
             "tables-2.0.dist-info/METADATA": b"Metadata-Version: 2.1\nName: tables\nVersion: 2.0\n",
             "tables-2.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n"}  # fmt: skip
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
               for name, data in files.items()}  # fmt: skip
    record = "".join(f"{name},sha256={digest},\n" for name, digest in digests.items())
    folder.mkdir()
    with zipfile.ZipFile(folder / "tables-2.0-py3-none-any.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, changes.get(Path(name).stem, data))
        archive.writestr("tables-2.0.dist-info/RECORD", record + "tables-2.0.dist-info/RECORD,,\n")
    return folder


def test_a_wheel_is_fetched_by_pip_and_every_file_compared_with_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "good")))
    fetched = packages.fetch(["pypi:tables"], tmp_path / "to", said=lambda _: None)
    assert sorted(Path(name).name for name in fetched["tables"].files) == ["LICENSE", "METADATA", "one.csv"]
    assert fetched["tables"].version == "2.0"
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel(tmp_path / "bad", one=b"a,b\n1,3\n")))
    with pytest.raises(DataError, match=r"one\.csv is not what the wheel's RECORD says"):
        packages.fetch(["pypi:tables"], tmp_path / "other")


def test_the_users_texts_are_split_by_file_and_read_in_paragraphs(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.txt").write_text(f"A heading {number}\n\nOne line\nand another {number}.\n")
    (tmp_path / "zh.txt").write_text("\u6c49\u5b57\n\u6c49\u5b57\u3002\n", encoding="utf-8")
    sides = {side: corpora.text_folder(tmp_path, side) for side in corpora.SPLITS}
    names = {side: {document.name for document in found} for side, found in sides.items()}
    assert len(names["train"] | names["test"]) == 41 and not names["train"] & names["test"]
    expected = {
        f"text:{n}.txt"
        for n in range(40)
        if int(hashlib.sha256(f"{n}.txt".encode()).hexdigest()[:8], 16) % 100 < 10
    }
    assert names["test"] - {"text:zh.txt"} == expected and expected
    document = next(each for each in sides["train"] if each.name == "text:3.txt")
    assert document.title == "A heading 3" and document.paragraphs == ("One line and another 3.",)
    chinese = next(each for found in sides.values() for each in found if each.name == "text:zh.txt")
    assert chinese.paragraphs == ("\u6c49\u5b57\u6c49\u5b57\u3002",) and corpora.is_chinese(chinese)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    corpora.text_folder.cache_clear()
    with pytest.raises(DataError, match=r"latin\.txt: not UTF-8"):
        corpora.text_folder(tmp_path, "train")


def test_chinese_words_differ_between_the_sides_and_most_documents_keep_to_gb2312() -> None:
    pytest.importorskip("jieba")
    train, test = corpora.chinese("train"), corpora.chinese("test")
    assert len(train) + len(test) == corpora.WORD_LISTS and len(test) > 30
    seen = {paragraph for document in train for paragraph in document.paragraphs}
    assert not any(paragraph in seen for document in test for paragraph in document.paragraphs)
    texts = ["".join(document.paragraphs) for document in train]
    assert len(set("".join(texts))) > 6000
    common = sum(text.encode("gb2312", "ignore").decode("gb2312") == text for text in texts)
    assert 0.8 < common / len(texts) < 0.87  # five of six


def test_chinese_clauses_are_words_of_one_kind_each_about_the_particles_of_a_pattern() -> None:
    pytest.importorskip("jieba")
    words = corpora._chinese_words(common=True)
    known = {kind: set(found) for kind, (found, _) in words.items()}
    assert "\u80fd\u91cf" in known["N"] and "\u79fb\u690d" in known["V"]  # energy; to transplant
    assert "\u79fb\u690d" not in known["N"] | known["D"]
    patterns = [pattern.split(" ") for pattern, _ in corpora.CLAUSES + corpora.TITLES]
    slots = {slot for pattern in patterns for slot in pattern if slot.isascii()}
    assert slots <= {*corpora.TAGS, "#"}
    headings = [each for document in corpora.chinese("train") for each in document.headings]
    joined = [heading for heading in headings if "\u548c" in heading]  # and
    fits = [any(heading.startswith(noun) for noun in known["N"]) for heading in joined[:100]]
    assert sum(fits) > 60, sum(fits)


def test_the_command_lists_what_is_known_and_refuses_other_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert corpora.main(["list"]) == 0
    listed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in listed] == list(packages.KNOWN) and all(len(line) == 5 for line in listed)
    for name in ("nothing", "npm:thing", "debian:a/../b", "debian:--help"):
        assert corpora.main(["fetch", name, "--to", str(tmp_path)]) == 2
        assert "is not known; expected one of `list`" in capsys.readouterr().err
    sources = Path(packages.__file__).read_text() + Path(corpora.__file__).read_text()
    assert "://" not in sources  # which hosts are asked is the package managers' matter


def test_texts_of_short_lines_alone_are_told_what_a_paragraph_is(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"a short line {number}")
    with pytest.raises(
        DataError, match="no new paragraph in .* more than 60 characters, or with a full stop"
    ):
        corpora.text_folder(tmp_path, "train")
