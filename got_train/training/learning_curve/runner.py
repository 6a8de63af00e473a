"""Trains a config on nested shares of its documents and measures each on the same held-out rows.

What a killed session has finished is kept: runs go on from their checkpoints, readings from their rows.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from got_train.config.schema import Config, SourceConfig
from got_train.data.documents import documents_of
from got_train.errors import ConfigError
from got_train.evaluation.compare import read_samples
from got_train.evaluation.provenance import write_json, write_text
from got_train.evaluation.runs import evaluate
from got_train.evaluation.scored import lower_is_better, metric_error
from got_train.html import charts
from got_train.html.page import document, escaped, table
from got_train.training.run import train
from got_train.training.signals import SignalHandler
from got_train.training.sources import open_source

from .power_law import Forecast, PowerLaw, forecast, words

SHARES = (0.125, 0.25, 0.5, 1.0)
FEWEST_SHARES = 3  # as many as the law has numbers
FEWEST_DOCUMENTS = 5  # of the smallest share
FEWEST_HELD_OUT = 10  # documents
CURVE, PAGE = "curve.json", "curve.html"


@dataclass(frozen=True)
class Plan:
    """What is trained: shares of the documents, each with every seed."""

    config: Config
    output_dir: Path
    shares: tuple[float, ...] = SHARES
    seeds: tuple[int, ...] = ()
    metric: str = "edit_distance"
    batch_size: int = 8

    @property
    def all_seeds(self) -> tuple[int, ...]:
        return self.seeds or (self.config.train.seed,)

    def folder(self, share: float, seed: int) -> Path:
        return self.output_dir / f"share-{share:g}-seed-{seed}"

    def run(self, share: float, seed: int) -> Config:
        """The config of one run; nothing but its share, seed and folder is another."""
        config = self.config
        sources = tuple(
            dataclasses.replace(source, share=source.share * share) for source in config.data.sources
        )
        cache = config.train.feature_cache
        if not (cache or config.parts.vision.trainable):
            cache = str(self.output_dir / "features")
        return dataclasses.replace(
            config,
            data=dataclasses.replace(config.data, train=sources),
            train=dataclasses.replace(
                config.train, seed=seed, output_dir=str(self.folder(share, seed)), feature_cache=cache
            ),
        )


def check(plan: Plan) -> dict[float, int]:
    """The rows of each share; refuses what would not carry a statement."""
    data = plan.config.data
    if fault := metric_error(plan.metric):
        raise ConfigError(f"--metric: {fault.replace('use loss, ', 'use ')}")
    if not data.validation:
        raise ConfigError("data.validation: every share is measured on it; name held-out records")
    if any(source.streaming for source in data.sources):
        raise ConfigError("data.train: a stream has no share; use files")
    if len(plan.shares) < FEWEST_SHARES or sorted(set(plan.shares)) != list(plan.shares):
        raise ConfigError(
            f"--shares {plan.shares}: expected {FEWEST_SHARES} or more, each larger than the one before"
        )
    if plan.shares[0] <= 0 or plan.shares[-1] > 1:
        raise ConfigError(f"--shares {plan.shares}: expected above 0, at most 1")
    smallest = [
        _documents(dataclasses.replace(source, share=source.share * plan.shares[0]))
        for source in data.sources
    ]
    held_out = sum(map(_documents, data.validation_sources))
    if sum(smallest) < FEWEST_DOCUMENTS:
        raise ConfigError(
            f"data.train: the smallest share ({plan.shares[0]:g}) has {sum(smallest)} documents; a statement "
            f"needs {FEWEST_DOCUMENTS} or more, use larger --shares or more documents"
        )
    if held_out < FEWEST_HELD_OUT:
        raise ConfigError(
            f"data.validation: {held_out} documents; a statement needs {FEWEST_HELD_OUT} or more, hold out "
            "more"
        )
    return {share: _rows(plan.run(share, plan.all_seeds[0])) for share in plan.shares}


def _documents(source: SourceConfig) -> int:
    return len(set(documents_of(open_source(source))[0]))


def _rows(config: Config) -> int:
    return sum(len(open_source(source)) for source in config.data.sources)


def measure(plan: Plan, signals: SignalHandler | None = None) -> list[str]:
    """Train and read whatever is missing, write curve.json and curve.html; returns what it says in words."""
    rows = check(plan)
    plan.output_dir.mkdir(parents=True, exist_ok=True)
    errors, documents = [], []
    for seed in plan.all_seeds:
        errors.append([])
        for share in plan.shares:
            print(
                f"{share:.0%} of the documents, {rows[share]:,} rows, seed {seed}",
                file=sys.stderr,
                flush=True,
            )
            values, documents = _run(plan, share, seed, signals)
            errors[-1].append(values)
    sizes, values = [rows[share] for share in plan.shares], np.array(errors)
    all_rows = _rows(plan.run(1.0, plan.all_seeds[0]))
    targets = sorted({all_rows, 2 * sizes[-1], 5 * sizes[-1]})
    law, forecasts = forecast(sizes, values, documents, targets)
    by_pages = {prediction.pages: prediction for prediction in forecasts}
    sentences = words(sizes[-1], law, by_pages[2 * sizes[-1]], by_pages[5 * sizes[-1]], _name(plan.metric))
    _write(plan, sizes, values, law, forecasts, sentences)
    return sentences


def _run(plan: Plan, share: float, seed: int, signals: SignalHandler | None) -> tuple[list[float], list[str]]:
    """The error of every held-out row after training on a share, and the documents of the rows."""
    config = plan.run(share, seed)
    final = train(config, resume=True, signals=signals)
    folder = plan.folder(share, seed) / "held_out"
    evaluate(
        final,
        [source.path for source in config.data.validation_sources],
        folder,
        batch_size=plan.batch_size,
        threads=config.train.threads or None,
        max_new_tokens=config.eval.max_new_tokens,
    )
    values, documents = [], []
    for sample in read_samples(folder, "word"):
        value = sample.value(plan.metric)
        if value is not None:
            values.append(value if lower_is_better(plan.metric) else 1 - value)
            documents.append(sample.prediction.cluster)
    if not values:
        raise ConfigError(f"--metric {plan.metric}: no held-out row has it; use edit_distance")
    return values, documents


def _name(metric: str) -> str:
    return metric if lower_is_better(metric) else f"1 - {metric}"


def _write(
    plan: Plan,
    sizes: Sequence[int],
    errors: np.ndarray,
    law: PowerLaw,
    forecasts: Sequence[Forecast],
    sentences: Sequence[str],
) -> None:
    points = [
        {"share": share, "rows": rows, "errors": errors[:, index].mean(1).tolist()}
        for index, (share, rows) in enumerate(zip(plan.shares, sizes, strict=True))
    ]
    values = {
        "metric": _name(plan.metric),
        "seeds": list(plan.all_seeds),
        "measured": points,
        "law": dataclasses.asdict(law),
        "forecast": [dataclasses.asdict(prediction) for prediction in forecasts],
        "words": list(sentences),
    }
    write_json(plan.output_dir / CURVE, values)
    write_text(plan.output_dir / PAGE, page(values))


def page(values: dict) -> str:
    """The curve as one page: words, plot, numbers."""
    law, last = PowerLaw(**values["law"]), values["forecast"][-1]["pages"]
    first = values["measured"][0]["rows"]
    drawn = np.geomspace(first, last, 60).tolist()
    measured = [(row["rows"], float(np.mean(row["errors"]))) for row in values["measured"]]
    series = {"measured": measured, "law": [(pages, law(pages)) for pages in drawn]}
    rows = [f"<tr><td>{pages:,}<td>{error:.4f}<td>measured" for pages, error in measured]
    rows += [
        f"<tr><td>{row['pages']:,}<td>{row['error']:.4f}<td>{row['low']:.4f} to {row['high']:.4f}"
        for row in values["forecast"]
    ]
    words_ = "".join(f"<p>{escaped(sentence)}</p>" for sentence in values["words"])
    figure = charts.curves(series, "pages", values["metric"], 0.0)
    numbers = table(("pages", values["metric"], "95 % interval of the law"), rows)
    title = "How many pages"
    main = f"{words_}<div class=charts><figure>{figure}</figure></div>{numbers}"
    return document(title, f"<header><h1>{title}</h1></header><main>{main}</main>", "")
