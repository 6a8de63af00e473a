"""How well a model reads: got evaluate CONFIG.yaml, or a checkpoint, or answers that exist.

Answers go to FOLDER/predictions.jsonl as they come, then scores to metrics.json and samples.jsonl, a page to
look at to report.html, and a table to stdout.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from got_train.config import loader
from got_train.errors import EvaluationError
from got_train.evaluation.benchmarks import NAMES, candidate
from got_train.evaluation.compare import compare_files
from got_train.evaluation.provenance import model_hash
from got_train.evaluation.runs import check_counts, evaluate, run_config, score_file
from got_train.requirements import need_paddle
from got_train.strict_files import printable_lines

from .arguments import CommandParser
from .exits import handle_errors, say

if TYPE_CHECKING:
    from got_train.evaluation.schema import EvaluationConfig

__all__ = ["compare_files", "evaluate", "main", "model_hash", "run_config", "score_file"]

SCORED, SOME_FAILED, TOO_LOW = 0, 1, 3


def parser() -> CommandParser:
    command = CommandParser(
        "evaluate",
        description="Score a model on records, score predictions that exist, or compare scores.",
        epilog="Exit codes: 0 scored, 1 some rows failed (listed on stderr), 2 wrong usage or files, 3 worse "
        "than --fail-under. A killed evaluation continues when it is started again.",
    )
    add = command.add_argument
    add(
        "model", nargs="?", metavar="CONFIG|FOLDER", help="a YAML file, a checkpoint, or a benchmark's folder"
    )
    add("overrides", nargs="*", metavar="SECTION.KEY=VALUE", help="settings that win over the YAML file")
    add(
        "--data",
        action="append",
        metavar="FILE",
        help="records to read and score; may be given several times",
    )
    add(
        "--benchmark",
        choices=NAMES,
        help="what --data, or the last FOLDER, is as its authors publish it (see `got benchmarks`)",
    )
    add("--version", metavar="V", help="of the benchmark's rules (the latest)")
    add(
        "--preset",
        choices=("ours", "published", "both"),
        help="olmOCR-bench: read as we do, or as the published GOT row was read (ours)",
    )
    add("--output-dir", metavar="FOLDER", help="predictions.jsonl, metrics.json and report.html go here")
    add("--limit", type=int, metavar="N", help="use only the first N records of each file")
    add("--batch-size", type=int, default=32, metavar="N", help="read N pages together (default 32)")
    add(
        "--max-new-tokens",
        type=int,
        default=4096,
        metavar="N",
        help="stop an answer after N tokens (default 4096)",
    )
    add(
        "--unit",
        choices=("word", "character"),
        default="word",
        help="what BLEU, F1, ... count; scene text: character",
    )
    add(
        "--case",
        choices=("kept", "fold"),
        default="kept",
        help="fold: capitals and small letters are the same, for labels that do not tell case (kept)",
    )
    add(
        "--document",
        default="",
        metavar="RULE",
        help="which rows intervals and tests take whole: folder, file, or a regular expression on the "
        "picture's path with one group (default: as got init --split)",
    )
    add(
        "--cdm-timeout",
        type=float,
        default=0,
        metavar="SECONDS",
        help="compare formulas as images too (CDM), each for at most this long (0: not at all)",
    )
    add(
        "--dtype",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="compute in this type (default float32)",
    )
    add("--threads", type=int, metavar="N", help="use N CPU threads (default: all cores)")
    add("--no-cpu-tuning", action="store_true", help="leave Paddle's CPU settings as they are")
    add(
        "--predictions",
        metavar="FILE",
        help="score this file; keys prediction, reference, task (or answer, label); a benchmark's folder",
    )
    add("--compare", nargs="+", metavar="FILE", help="several runs side by side: folders, or predictions")
    add("--baseline", metavar="FOLDER", help="an earlier evaluation of the same data, to compare with")
    add("--beside", metavar="FILE|FOLDER", help="another system's answers to the same rows, to stand beside")
    add("--force", action="store_true", help="compare even if prompts, decoding or data differ")
    add("--no-report", action="store_true", help="write no report.html")
    add(
        "--fail-under",
        action="append",
        default=[],
        metavar="METRIC=VALUE",
        help="exit with 3 if it is worse, e.g. edit_distance=0.2, table.teds=0.8, ocr:f1=0.9",
    )
    return command


@handle_errors(
    "evaluate",
    interrupted="interrupted; the answers so far are kept, run the same command to continue",
)
def main(arguments: Sequence[str] | None = None) -> int:
    return run(parser().parse_args(arguments))


def run(options: argparse.Namespace) -> int:
    """Do what the options ask for; returns the exit code."""
    if options.benchmark and not options.data:
        _take_benchmark(options)
    chosen = [name for name in ("model", "predictions", "compare") if getattr(options, name)]
    if len(chosen) != 1:
        given = " and ".join(chosen) or "none of them"
        raise EvaluationError(f"a checkpoint, --predictions or --compare: got {given}; give one")
    if options.compare:
        print(printable_lines(compare_files(options.compare, options.force, options.output_dir)))
        return SCORED
    config = _config(options)
    if config.model.path:
        need_paddle()
    metrics = run_config(config)
    return _told(metrics, config.scores.fail_under)


def _told(metrics: dict[str, Any], limits: dict[str, float]) -> int:
    """Tables to stdout, failures to stderr; the exit code."""
    from got_train.evaluation import verdict
    from got_train.evaluation.documents import DocumentCount
    from got_train.evaluation.scores import shortfalls, table

    paragraphs = [table(metrics)]
    paragraphs += [str(DocumentCount(**count)) for count in metrics.get("documents", ())]
    if sentence := verdict.now(metrics):
        paragraphs.append(f"\n{sentence}")
    if "beside" in metrics:
        paragraphs.append(verdict.beside(metrics["beside"]["name"], metrics["beside"]["skills"])[0])
    paragraphs += [skill["words"] for skill in metrics.get("comparison", {}).get("skills", ())]
    for name, results in metrics.get("benchmarks", {}).items():
        paragraphs.append(
            f"{name}: " + ", ".join(f"{key} {value}" for key, value in results["summary"].items())
        )
    print(printable_lines("\n".join(paragraphs)))
    failures = [f"{failure['location']}: {failure['cause']}" for failure in metrics["failures"]]
    if failures:
        say("evaluate", "\n  ".join([f"{len(failures)} failed and count as empty answers", *failures]))
    if short := shortfalls(metrics, limits):
        say("evaluate", "\n  ".join(["worse than --fail-under", *short]))
        return TOO_LOW
    return SOME_FAILED if failures else SCORED


def _config(options: argparse.Namespace) -> EvaluationConfig:
    from got_train.evaluation import schema

    if options.model and options.model.lower().endswith((".yaml", ".yml")):
        limits = [f"scores.fail_under.{limit}" for limit in options.fail_under]
        return schema.load(options.model, [*options.overrides, *limits], options.output_dir)
    if options.overrides:
        raise EvaluationError(
            f"{options.overrides[0]}: settings go with a YAML file; options with a checkpoint"
        )
    _check_options(options)
    check_counts(limit=options.limit, batch_size=options.batch_size, threads=options.threads)
    chosen = {name: getattr(options, name) for name in ("benchmark", "version", "preset")}
    source = {name: value for name, value in chosen.items() if value}
    values = {
        "output_dir": options.output_dir or "",
        "predictions": options.predictions or "",
        "limit": options.limit,
        "model": {
            "path": options.model or "",
            "dtype": options.dtype,
            "threads": options.threads or 0,
            "tune_cpu": not options.no_cpu_tuning,
        },
        "data": [{"path": path, **source} for path in options.data or ()],
        "decoding": {"max_new_tokens": options.max_new_tokens, "batch_size": options.batch_size},
        "scores": {
            "unit": options.unit,
            "case": options.case,
            "document": options.document,
            "cdm_seconds": options.cdm_timeout,
            "fail_under": dict(map(_limit, options.fail_under)),
        },
        "report": {
            "page": not options.no_report,
            "baseline": options.baseline or "",
            "beside": options.beside or "",
            "force": options.force,
        },
    }
    return loader.build(schema.EvaluationConfig, values)


def _take_benchmark(options: argparse.Namespace) -> None:
    """The last of CHECKPOINT and FOLDER is the benchmark's; its answers may lie in it."""
    folders = [*([options.model] if options.model else []), *options.overrides]
    if len(folders) == (2 if options.overrides else 1):
        options.data = [folders[-1]]
        options.model, options.overrides = (folders[0] if len(folders) == 2 else None), []
        if not options.model and not options.predictions:
            options.predictions = candidate(options.benchmark, folders[-1])


def _check_options(options: argparse.Namespace) -> None:
    if options.benchmark and not options.data:
        raise EvaluationError(
            f"--benchmark {options.benchmark}: --data is missing; expected the benchmark's file or folder"
        )
    if options.model:
        for name in ("data", "output_dir"):
            if not getattr(options, name):
                missing = "missing; a checkpoint needs --data FILE and --output-dir FOLDER"
                raise EvaluationError(f"--{name.replace('_', '-')}: {missing}")
    elif options.limit:
        raise EvaluationError("--limit: does not go with --predictions, which asks no model")


def _limit(given: str) -> tuple[str, float]:
    name, _, value = given.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise EvaluationError(
            f"--fail-under {given}: not a number; expected one such as edit_distance=0.2"
        ) from None
