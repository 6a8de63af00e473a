"""Train a GOT model from a YAML file: got train CONFIG [section.key=value ...] [--resume] [--dry-run]."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence

from got_train.config.loader import dump_config, load_config
from got_train.config.schema import Config
from got_train.errors import TrainingError
from got_train.requirements import need_paddle
from got_train.training.signals import SignalHandler

from .arguments import CommandParser
from .exits import DONE, FAILED, INTERRUPTED, TERMINATED, describe, handle_errors, say


def parser() -> CommandParser:
    parser = CommandParser(
        "train",
        description="Train a GOT model from a YAML file; prints the folder of the final model.",
        epilog="Exit codes: 0 trained, 1 failed, 2 wrong usage or settings, 130 interrupted, 143 terminated.",
    )
    add = parser.add_argument
    add("config", help="a YAML file, e.g. configs/nano/stage1.yaml")
    add("overrides", nargs="*", metavar="section.key=value", help="settings that win over the file")
    add("--resume", action="store_true", help="continue from the last complete checkpoint, if there is one")
    add("--show", action="store_true", help="print the whole config and stop")
    dry = "build everything, try the longest rows, print the time and memory a run needs, and stop"
    add("--dry-run", action="store_true", help=dry)
    return parser


@handle_errors("train", refused=FAILED)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_intermixed_args(arguments)
    config = load_config(options.config, options.overrides)
    if options.show:
        print(dump_config(config), end="")
        return DONE
    interruption = SignalHandler()
    interruption.listen()
    try:
        print(
            dry_run(config, options.resume) if options.dry_run else run(config, options.resume, interruption)
        )
        return DONE
    except KeyboardInterrupt as error:
        if not options.dry_run:
            report(config)
        say("train", f"interrupted; {last_checkpoint(config)}")
        return TERMINATED if getattr(error, "number", 0) == signal.SIGTERM else INTERRUPTED
    except OSError as error:
        if not error.strerror:  # the message is ours
            raise
        where = error.filename or config.train.output_dir
        raise TrainingError(f"{where}: {error.strerror}; {last_checkpoint(config)}") from error


def run(config: Config, resume: bool, interruption: SignalHandler) -> str:
    need_paddle()
    from got_train.training.run import train

    final = str(train(config, resume, interruption))
    report(config)
    return final


def dry_run(config: Config, resume: bool) -> str:
    need_paddle()
    from got_train.training.dry_run import dry_run

    return dry_run(config, resume)


def report(config: Config) -> None:
    """Write the run's page; no fault of a page is one of the run."""
    if int(os.environ.get("PADDLE_TRAINER_ID", "0")) > 0 or not os.path.isdir(config.train.output_dir):
        return
    try:
        from got_train.run_report.model_card import write_card
        from got_train.run_report.page import write_report

        write_report(config.train.output_dir, config)
        write_card(config.train.output_dir, config)
    except (Exception, KeyboardInterrupt) as error:
        say("train", f"no report.html: {type(error).__name__}: {describe(error)}")


def last_checkpoint(config: Config) -> str:
    from got_train.training.checkpoints import checkpoints

    complete = checkpoints(config.train.output_dir)
    if not complete:
        return "there is no checkpoint yet"
    return f"{complete[-1]} is complete, --resume continues from it"
