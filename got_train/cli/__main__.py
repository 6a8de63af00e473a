"""One command for everything: got <command> [arguments]. Imports only the command that is asked for."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from got_train import __version__

from .exits import DONE, WRONG_USAGE, leave, say

# in the order in which a newcomer meets them
COMMANDS = {
    "quickstart": "draw pages, train three stages at nano size, evaluate, read a page",
    "init": "look at a folder of documents and write a config to fine-tune on it",
    "check": "say before training whether a run is ready: config, every row, first steps",
    "train": "train or fine-tune a model from a YAML file",
    "report": "show a run as one page: verdict, curves, samples, settings",
    "trace": "show which rows went into a step, or which steps saw a row",
    "curve": "say how many pages are enough: train on shares of the data and forecast",
    "merge": "merge a LoRA adapter into its base model, or average several runs",
    "prelabel": "draft the text of pages by a model, Tesseract or RapidOCR, for people to correct",
    "queue": "order drafts: doubtful and disputed ones first, and no two alike in a row",
    "infer": "read pages, PDFs, folders or a video",
    "app": "open a local web page to read, compare and correct pages",
    "serve": "answer OpenAI-compatible requests, batched, from one or several models",
    "render": "draw saved answers as HTML, Markdown, Word, JSON or text",
    "calibrate": "fit a checkpoint's confidences to records with known text",
    "evaluate": "score a checkpoint or saved predictions, or compare scores",
    "benchmarks": "list the benchmarks that evaluate knows, with versions and published values",
    "convert": "write a checkpoint in another layout, and check that it computes the same",
    "convert-data": "write training data in another format",
    "nano": "make the nano checkpoints of this repository again, from nothing",
    "doctor": "show what the machine has, and test that everything computes here as it should",
    "precompile": "compile the CPU kernels now, so that the first run need not",
}


def usage() -> str:
    width = max(map(len, COMMANDS)) + 2
    lines = [f"  {name:{width}}{line}" for name, line in COMMANDS.items()]
    return "\n".join(
        [
            "usage: got <command> [arguments]; got <command> --help; got --version",
            "Train, fine-tune, run and evaluate GOT-OCR2.0 on PaddlePaddle.",
            *lines,
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    name, *rest = (sys.argv[1:] if arguments is None else [*arguments]) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(usage())
        return DONE
    if name == "--version":
        print(f"got_train {__version__}")
        return DONE
    if name not in COMMANDS:
        near = difflib.get_close_matches(name.replace("_", "-"), COMMANDS, 1)
        say("got", f"{name}: no such command; " + (f"did you mean {near[0]}?" if near else "see got --help"))
        return WRONG_USAGE
    return importlib.import_module(f"got_train.cli.{name.replace('-', '_')}").main(rest)


if __name__ == "__main__":
    leave(main())
