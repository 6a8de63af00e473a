"""What a run is made of, before Paddle is needed: its tokenizer, records, steps and folders."""

from __future__ import annotations

import glob
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path

from got_train import remote_files
from got_train.checkpoint.foreign import refuse_foreign
from got_train.config.schema import Config, DataConfig, ModelConfig, SourceConfig
from got_train.data.documents import nested_share
from got_train.data.mixture import Mixture, Subset, replay_subset, subsample
from got_train.data.records import Record, RecordStream, open_stream, read_records
from got_train.errors import ConfigError
from got_train.strict_files import open_regular, reading
from got_train.tokenizer import Tokenizer, load_tokenizer

MAX_HASHED_BYTES = 64 << 20  # of a file; larger ones are told by size and time
_DATA_ENDINGS = (".jsonl", ".json", ".csv", ".parquet", ".arrow", ".txt", ".xml")


def find_tokenizer(model: ModelConfig) -> Tokenizer:
    """The tokenizer of a run that begins."""
    for folder in (model.tokenizer, model.init_from, model.decoder_from, model.vision_from):
        if folder:
            if folder != model.tokenizer:
                refuse_foreign(folder)
            return load_tokenizer(folder)
    raise ConfigError("model.tokenizer: no folder given, and no checkpoint to take it from; use a folder")


def open_source(source: SourceConfig) -> Sequence[Record] | RecordStream:
    """The records of a source; no picture is opened."""
    read = open_stream if source.streaming else read_records
    records = read(
        source.path,
        image_root=source.image_root or None,
        allow_empty=source.allow_empty,
        accept_answers=source.accept_answers,
        task=source.task,
        columns=source.columns,
        split=source.split,
    )
    return records if source.share == 1 else Subset(records, nested_share(records, source.share))


def build_mixture(config: Config) -> Mixture:
    """The rows of data.train and data.replay in the order in which the run draws them."""
    data, seed = config.data, config.train.seed
    remote_files.configure(data.remote_cache, data.remote_cache_gb)
    if not data.sources:
        raise ConfigError("data.train: no data; give a file of records, e.g. data.train=my.jsonl")
    for index, source in enumerate(data.sources):
        if source.streaming and not config.train.max_steps:
            raise ConfigError(
                f"data.train[{index}].streaming: its rows are not counted, so epochs are not either; give "
                "train.max_steps"
            )
    records = [open_source(source) for source in data.sources]
    for index, source in enumerate(data.replay_sources):
        records.append(replay_subset(open_source(source), data.replay_share, seed, index))
    weights = [source.weight for source in (*data.sources, *data.replay_sources)]
    return Mixture(records, None if weights[0] is None else weights, seed)


def build_validation(config: Config) -> Sequence[Record] | None:
    """The records of data.validation that are used, the same in every run of the seed; None without any."""
    sources = config.data.validation_sources
    if not sources:
        return None
    remote_files.configure(config.data.remote_cache, config.data.remote_cache_gb)
    return subsample(list(map(open_source, sources)), config.data.validation_rows, config.train.seed)


def count_steps(config: Config, rows: int | None) -> int:
    """Of a run over so many rows; None where streams leave them unknown and train.max_steps is given."""
    train = config.train
    batches = int(rows * train.num_train_epochs) // train.batch_size if rows else 0
    return train.max_steps or max(1, batches) * config.rl.updates


def source_stamps(data: DataConfig) -> dict[str, str]:
    """Path of each source -> what its files are now, to be compared when the run goes on."""
    return {source.path: _stamp_of(source.path) for source in (*data.sources, *data.replay_sources)}


def _stamp_of(path: str) -> str:
    if not remote_files.is_url(path):
        return _stamp(Path(path))
    store = remote_files.cache()
    files = store.matches(path) if glob.has_magic(path) else [path]
    stamps = "".join(f"{file} {store.stamp(file)}\0" for file in files)
    return hashlib.sha256(stamps.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _stamp(path: Path) -> str:
    """Of a file, all files of a folder, or of a pattern; pictures are told by their names and sizes."""
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file()]
    else:
        files = [path] if path.exists() else list(path.parent.glob(path.name))
    digest = hashlib.sha256()
    for file in sorted(files):
        state = file.stat()
        digest.update(f"{file.relative_to(path.parent)} {state.st_size}\0".encode("utf-8", "surrogateescape"))
        if not file.name.lower().endswith(_DATA_ENDINGS):
            continue
        if state.st_size > MAX_HASHED_BYTES:
            digest.update(str(state.st_mtime_ns).encode())
        else:
            with reading(file, ConfigError), open_regular(file, ConfigError) as opened:
                digest.update(opened.read())
    return digest.hexdigest()[:32]


def make_output_dir(config: Config) -> Path:
    """The folder of a run."""
    return make_folder("train.output_dir", config.train.output_dir, "checkpoints and logs")


def make_folder(key: str, path: str, purpose: str) -> Path:
    """The folder that a setting names; refuses now what could not be written hours later."""
    folder = Path(path)
    if "\0" in path:
        raise ConfigError(f"{key} {path!r}: has a NUL in its name; use another folder")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{key} {folder}: is a file; expected a folder for {purpose}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise ConfigError(
            f"{key} {folder}: cannot be written ({error.strerror}); use another folder"
        ) from error
