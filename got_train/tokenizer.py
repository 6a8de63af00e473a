"""Text to ids and back: GOT's Qwen BPE, a small one of the same form, and OPT's for stage 1.

Knows the special tokens of GOT, but not the words of a prompt, and nothing of images or models.
"""

from __future__ import annotations

import base64
import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

import regex
import tiktoken

from .errors import CheckpointError
from .prompts import END, IMAGE_END, IMAGE_START, IMAGE_TOKEN, START
from .strict_files import check_inside, read_json, read_text, reading

# Qwen's own: one digit at a time. The tokenizer.json of transformers has \p{N}{1,3} and gives the same ids,
# for no token of Qwen's joins digits (but the full-width 10 and 20, ids 77150 and 80091, never made here).
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
THREE_DIGITS = PATTERN.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

PAD = "<|endoftext|>"
NANO_SPECIALS = (PAD, START, END, IMAGE_START, IMAGE_END, IMAGE_TOKEN)
UNUSED = tuple(f"<|extra_{i}|>" for i in range(205))
REGIONS = ("<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>")  # Qwen-VL's; GOT writes boxes as text
GOT_SPECIALS = (PAD, START, END, *UNUSED, *REGIONS, IMAGE_START, IMAGE_END, IMAGE_TOKEN)
GOT_RANKS = 151_643

RANKS_FILE, CONFIG_FILE, TRANSFORMERS_FILE = "qwen.tiktoken", "tokenizer_config.json", "tokenizer.json"
VOCAB_FILE, MERGES_FILE = "vocab.json", "merges.txt"
MAX_SIZE = 1 << 20  # words; no tokenizer of this kind has more

OPT_PAD, OPT_START = "<pad>", "</s>"
LINE_BREAK = "<lb>"

# GPT-2's way to write bytes in JSON: what prints stands for itself, the rest follows from U+0100 on.
PRINTABLE = (*range(33, 127), *range(161, 173), *range(174, 256))
LETTERS = {byte: chr(byte) for byte in PRINTABLE}
LETTERS |= {byte: chr(256 + i) for i, byte in enumerate(sorted(set(range(256)) - set(PRINTABLE)))}
BYTES = {letter: byte for byte, letter in LETTERS.items()}


class Tokenizer:
    """Byte-level BPE as Qwen and GOT use it: ids are ranks, and the special tokens follow the ranks."""

    def __init__(self, ranks: dict[bytes, int], specials: Sequence[str] = GOT_SPECIALS) -> None:
        wrong = [word for word in {*specials, *NANO_SPECIALS} if list(specials).count(word) != 1]
        if wrong:
            raise CheckpointError(
                f"special tokens: {sorted(wrong)[0]} is missing or repeated; name each once"
            )
        self.ranks = ranks
        self.size = len(ranks) + len(specials)
        self.specials = {word: len(ranks) + i for i, word in enumerate(specials)}
        self.bpe = _encoding(PATTERN, ranks, self.specials)
        self.pad_id, self.end_id, self.image_id = (self.specials[word] for word in (PAD, END, IMAGE_TOKEN))
        # Answers end with the first; the second is what the released configs call the end.
        self.stop_ids = (self.end_id, self.pad_id)

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text; `<img>` inside it is five characters, not a token."""
        return self.bpe.encode_ordinary(unicodedata.normalize("NFC", text))

    def encode_prompt(self, prompt: str) -> list[int]:
        """Ids of a prompt, whose special tokens are meant."""
        return self.bpe.encode(unicodedata.normalize("NFC", prompt), allowed_special="all")

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an answer and of the token that ends it."""
        return [*self.encode(text), self.end_id]

    def decode(self, ids: Iterable[int], skip_special: bool = True) -> str:
        """The text of `ids`; where they end inside a character stands U+FFFD."""
        return self.decode_bytes(ids, skip_special).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = True) -> bytes:
        """The bytes of `ids`, for callers that show text while it grows."""
        known = self._known(ids)
        return self.bpe.decode_bytes([i for i in known if not skip_special or i < len(self.ranks)])

    def save(self, folder: str | Path) -> None:
        """Write what `load_tokenizer` reads: the ranks, and the special tokens beside them."""
        path = _new_folder(folder) / RANKS_FILE
        lines = [f"{base64.b64encode(word).decode()} {rank}\n" for word, rank in self.ranks.items()]
        path.write_text("".join(lines), encoding="ascii")
        config = {"tokenizer_class": "GotTokenizer", "special_tokens": list(self.specials)}
        _write_json(path.with_name(CONFIG_FILE), config)

    def to_transformers(self, folder: str | Path) -> None:
        """Write a fast tokenizer of transformers that gives the same ids, into a folder of its own."""
        path = _new_folder(folder) / TRANSFORMERS_FILE
        if path.with_name(RANKS_FILE).exists():
            raise CheckpointError(f"{folder}: {RANKS_FILE} needs its own {CONFIG_FILE}; use another folder")
        flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        added = {i: {"content": word, **flags, "special": True} for word, i in self.specials.items()}
        split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
        letters = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
        model = {
            "type": "BPE",
            "ignore_merges": True,  # a piece that is a word needs no merging, as in tiktoken
            "vocab": {_letters(word): rank for word, rank in self.ranks.items()},
            "merges": [f"{_letters(left)} {_letters(right)}" for left, right in _merges(self.ranks)],
        }
        tokenizer = {
            "version": "1.0",
            "added_tokens": [{"id": i, **word} for i, word in added.items()],
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, letters]},
            "decoder": letters,
            "model": model,
        }
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            **dict.fromkeys(("bos_token", "eos_token", "pad_token"), PAD),
            "added_tokens_decoder": added,
            "clean_up_tokenization_spaces": False,  # it would take spaces out of answers
            "model_max_length": 8000,
            "padding_side": "right",
        }
        _write_json(path, tokenizer)
        _write_json(path.with_name(CONFIG_FILE), config)

    def _known(self, ids: Iterable[int]) -> list[int]:
        known = [int(i) for i in ids]
        for i in known:
            if not 0 <= i < self.size:
                raise CheckpointError(f"id {i} is not a token id; ids are 0..{self.size - 1}")
        return known


class OptTokenizer(Tokenizer):
    """GPT-2's BPE under OPT's ids, for stage 1 as in Vary-tiny: an answer is one line, ended by newline.

    Newlines inside a text are written `<lb>`. The image takes the embedding's last row, unused by OPT.
    """

    def __init__(self, vocab: dict[str, int], merges: Sequence[tuple[str, str]]) -> None:
        missing = [word for word in (OPT_PAD, OPT_START, *BYTES) if word not in vocab]
        if missing:
            raise CheckpointError(f"vocabulary: no {missing[0]!r}, so it is not OPT's; GOT's is {RANKS_FILE}")
        ranks = {bytes([byte]): byte for byte in range(256)}
        for number, pair in enumerate(merges, start=1):
            word = "".join(pair)
            if len(pair) != 2 or not {*pair, word} <= vocab.keys():
                raise CheckpointError(
                    f"merge {number}: {' '.join(pair)!r} is not two words of the vocabulary"
                )
            ranks.setdefault(_bytes(word), len(ranks))
        self.vocab, self.merges = vocab, merges
        self.bpe = _encoding(GPT2_PATTERN, ranks, {})
        self.ids = [vocab[_letters(word)] for word in ranks]  # by rank: OPT's ids do not follow the merges
        self.words = dict(zip(self.ids, ranks, strict=True))
        # OPT's embedding has rows in eights, with some to spare: 50,272 for 50,265 words.
        self.size = (max(vocab.values()) + 9) // 8 * 8
        self.image_id = self.size - 1
        self.pad_id, self.start_id, self.end_id = vocab[OPT_PAD], vocab[OPT_START], vocab[LETTERS[ord("\n")]]
        self.stop_ids = (self.end_id, self.start_id)
        self.specials = {word: i for word, i in vocab.items() if i not in self.words}
        self.specials[IMAGE_TOKEN] = self.image_id

    def encode(self, text: str) -> list[int]:
        """Ids of ordinary text, as one line."""
        return [self.ids[rank] for rank in self.bpe.encode_ordinary(text.replace("\n", LINE_BREAK))]

    def encode_prompt(self, prompt: str) -> list[int]:
        """The image first, then `</s>`, with which OPT begins every text, then the words."""
        *image, words = prompt.split(IMAGE_TOKEN)
        strange = "".join(image) or next((word for word in NANO_SPECIALS if word in words), "")
        if strange:
            raise CheckpointError(
                f"prompt: OPT cannot read {strange[:20]!r}; build it in the stage1 prompt_template"
            )
        return [self.image_id] * len(image) + [self.start_id, *self.encode(words)]

    def decode_bytes(self, ids: Iterable[int], skip_special: bool = True) -> bytes:
        """The bytes of `ids`, `<lb>` turned back; the newline token is the end and counts as special."""
        named = {} if skip_special else {i: word.encode() for word, i in self.specials.items()}
        shown = [i for i in self._known(ids) if not skip_special or i != self.end_id]
        words = (self.words.get(i) or named.get(i, b"") for i in shown)
        return b"".join(words).replace(LINE_BREAK.encode(), b"\n")

    def save(self, folder: str | Path) -> None:
        """Write what `load_tokenizer` reads: the vocabulary and the merges."""
        path = _new_folder(folder) / VOCAB_FILE
        _write_json(path, self.vocab)
        lines = ["#version: 0.2", *(" ".join(pair) for pair in self.merges), ""]
        path.with_name(MERGES_FILE).write_text("\n".join(lines), encoding="utf-8")

    def to_transformers(self, folder: str | Path) -> None:
        raise CheckpointError(f"{folder}: transformers has no GOT of stage 1; export one of a later stage")


def load_tokenizer(folder: str | Path) -> Tokenizer:
    """The tokenizer of a folder: GOT's original files, those of transformers, or OPT's."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: no such folder; expected one with a tokenizer, such as a checkpoint"
        )
    for files, read in (
        ((RANKS_FILE,), _from_ranks),
        ((TRANSFORMERS_FILE,), _from_transformers),
        ((VOCAB_FILE, MERGES_FILE), _from_opt),
    ):
        if all((folder / file).exists() for file in files):
            check_inside(folder / files[0], folder)
            with reading(folder / files[0]):
                return read(folder / files[0])
    names = f"{RANKS_FILE}, {TRANSFORMERS_FILE}, or {VOCAB_FILE} with {MERGES_FILE}"
    raise CheckpointError(f"{folder}: no tokenizer here; looked for {names}")


def _from_opt(path: Path) -> OptTokenizer:
    lines = read_text(path.with_name(MERGES_FILE)).split("\n")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version:")]
    return OptTokenizer(_vocabulary(read_json(path), path), pairs)


def _vocabulary(vocab: object, path: Path) -> dict[str, int]:
    """Words and their ids, each id once."""
    if not isinstance(vocab, dict) or not all(type(i) is int and 0 <= i < MAX_SIZE for i in vocab.values()):
        raise CheckpointError(f"{path}: expected a vocabulary of words and their ids")
    if len(set(vocab.values())) < len(vocab):
        raise CheckpointError(f"{path}: two words of the vocabulary have the same id")
    return vocab


def train_tokenizer(texts: Iterable[str], size: int, specials: Sequence[str] = NANO_SPECIALS) -> Tokenizer:
    """A small tokenizer of exactly `size` ids in Qwen's form: the commonest pair becomes the next word."""
    ranks = {bytes([byte]): byte for byte in range(256)}
    if size < len(ranks) + len(specials):
        raise CheckpointError(f"size: {size} cannot hold 256 bytes and {len(specials)} special tokens")
    texts = (unicodedata.normalize("NFC", text) for text in texts)
    pieces = Counter(piece.encode() for text in texts for piece in regex.findall(PATTERN, text))
    pairs = {piece: _pairs(piece, ranks) for piece in pieces}
    counts = Counter()
    for piece, times in pieces.items():
        _add(counts, pairs[piece], times)
    while len(ranks) + len(specials) < size:
        word, count = max(counts.items(), key=itemgetter(1, 0), default=(b"", 0))  # bytes decide a tie
        if count < 2:
            raise CheckpointError(
                f"size: {size} needs more text; after {len(ranks) - 256} words no pair recurs"
            )
        ranks[word] = len(ranks)
        for piece in [piece for piece in pieces if word in piece]:
            _add(counts, pairs[piece], -pieces[piece])
            pairs[piece] = _pairs(piece, ranks)
            _add(counts, pairs[piece], pieces[piece])
    return Tokenizer(ranks, specials)


def _from_ranks(path: Path) -> Tokenizer:
    ranks = {}
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        try:
            word, rank = line.split()
            word, rank = base64.b64decode(word, validate=True), int(rank)
        except ValueError:
            raise CheckpointError(f"{path}:{number}: expected base64 and a rank; got {line[:40]!r}") from None
        if word in ranks:
            raise CheckpointError(f"{path}:{number}: {line[:40]!r} is there a second time; keep one of them")
        ranks[word] = rank
    config = path.with_name(CONFIG_FILE)
    specials = read_json(config).get("special_tokens") if config.exists() else None
    if specials is not None and not (isinstance(specials, list) and _are_words(specials)):
        raise CheckpointError(f"{config}: special_tokens is {str(specials)[:60]}; expected a list of words")
    if specials is None and len(ranks) != GOT_RANKS:
        raise CheckpointError(f"{config}: no special_tokens; only GOT's {GOT_RANKS} ranks do without them")
    return Tokenizer(_checked(ranks, path), GOT_SPECIALS if specials is None else specials)


def _from_transformers(path: Path) -> Tokenizer:
    """Qwen's or a small tokenizer as transformers writes it; refused if ranks alone would give other ids."""
    data = read_json(path)
    model = data.get("model")
    kind = model.get("type") if isinstance(model, dict) else model
    if kind != "BPE":
        raise CheckpointError(f"{path}: a model of type {str(kind)[:40]}; it must be a byte-level BPE")
    vocab = _vocabulary(model.get("vocab"), path)
    merges = [tuple(pair.split(" ") if isinstance(pair, str) else pair) for pair in model["merges"]]
    if not all(len(pair) == 2 and _are_words(pair) for pair in merges):
        raise CheckpointError(f"{path}: expected merges of two words each")
    if (vocab.get(OPT_PAD), vocab.get(OPT_START)) == (1, 2):
        return OptTokenizer(vocab, merges)
    cut = json.dumps(data.get("pre_tokenizer"))
    if not any(json.dumps(pattern) in cut for pattern in (PATTERN, THREE_DIGITS)):
        raise CheckpointError(
            f"{path}: pre_tokenizer is not Qwen's, so ids would differ; use GOT's or our own"
        )
    added = {word["content"]: word["id"] for word in data.get("added_tokens", [])}
    if not _are_words(added) or not all(type(i) is int for i in added.values()):
        raise CheckpointError(f"{path}: expected added_tokens with content and id")
    words = sorted(vocab.keys() - added.keys(), key=vocab.get)
    if any(letter not in BYTES for word in words for letter in word):
        raise CheckpointError(f"{path}: the vocabulary is not byte-level; it must be in GPT-2's letters")
    ranks = _checked({_bytes(word): vocab[word] for word in words}, path)
    ids = [vocab.get("".join(pair), -1) for pair in merges]
    if ids != sorted(ids) or set(ids) != {rank for word, rank in ranks.items() if len(word) > 1}:
        raise CheckpointError(f"{path}: the ids do not follow the merges, as they must for ranks to be ids")
    if any(word.isascii() and word.isdigit() and len(word) > 1 for word in words):
        raise CheckpointError(f"{path}: has words of several digits; GOT's BPE reads one digit at a time")
    specials = sorted(added, key=added.get)
    if [added[word] for word in specials] != list(range(len(ranks), len(ranks) + len(specials))):
        raise CheckpointError(f"{path}: the added tokens must take the ids from {len(ranks)} on, each one")
    if len(ranks) == GOT_RANKS and tuple(specials) == GOT_SPECIALS[: len(specials)]:
        specials = GOT_SPECIALS  # Qwen1.5 names the first three; GOT's take the next ids
    return Tokenizer(ranks, specials)


def _are_words(values: object) -> bool:
    return isinstance(values, (list, tuple, dict)) and all(isinstance(value, str) for value in values)


def _checked(ranks: dict[bytes, int], path: Path) -> dict[bytes, int]:
    if list(ranks.values()) != list(range(len(ranks))):
        raise CheckpointError(f"{path}: the ranks must be 0..{len(ranks) - 1} in order, each for one word")
    missing = [byte for byte in range(256) if bytes([byte]) not in ranks]
    if missing:
        raise CheckpointError(f"{path}: byte {missing[0]} has no rank; all 256 must have one")
    return ranks


def _merges(ranks: dict[bytes, int]) -> Iterable[tuple[bytes, bytes]]:
    """Every pair that makes a word, in the order of words, for tiktoken joins whichever it meets."""
    for word in ranks:
        pairs = [(word[:i], word[i:]) for i in range(1, len(word))]
        known = [pair for pair in pairs if pair[0] in ranks and pair[1] in ranks]
        yield from sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))


def _add(counts: Counter[bytes], pairs: Counter[bytes], times: int) -> None:
    for pair, count in pairs.items():
        counts[pair] += count * times


def _pairs(piece: bytes, ranks: dict[bytes, int]) -> Counter[bytes]:
    """The neighbours in `piece`, joined and counted, once all joins of `ranks` are made."""
    parts = [piece[i : i + 1] for i in range(len(piece))]
    while True:
        pairs = [left + right for left, right in pairwise(parts)]
        known = [pair for pair in pairs if pair in ranks]
        if not known:
            return Counter(pairs)
        first = pairs.index(min(known, key=ranks.__getitem__))
        parts[first : first + 2] = [pairs[first]]


def _encoding(pattern: str, ranks: dict[bytes, int], specials: dict[str, int]) -> tiktoken.Encoding:
    return tiktoken.Encoding("got", pat_str=pattern, mergeable_ranks=ranks, special_tokens=specials)


def _letters(word: bytes) -> str:
    return "".join(LETTERS[byte] for byte in word)


def _bytes(letters: str) -> bytes:
    return bytes(BYTES[letter] for letter in letters)


def _new_folder(folder: str | Path) -> Path:
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_json(path: Path, data: dict) -> None:
    path.write_text(json.dumps(data, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
