"""Does everything work on this machine? got doctor: what it has, and a self-test that trains and reads.

Writes gpu_report.json and gpu_report.html, which may be attached to an issue. No page of yours is touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from got_train.requirements import need_paddle

from .arguments import CommandParser, count
from .exits import handle_errors

PASSED, FAILED = 0, 1


def parser() -> CommandParser:
    command = CommandParser(
        "doctor",
        description="Show what the machine has, and test that everything computes here as it should.",
        epilog="Exit codes: 0 all checks passed, 1 some failed, 2 wrong usage, 130 interrupted.",
    )
    command.add_argument(
        "--folder", default=".", help="for gpu_report.json and gpu_report.html (default: here)"
    )
    command.add_argument("--quick", action="store_true", help="smaller sizes and fewer steps")
    command.add_argument("--facts", action="store_true", help="show the machine only; run no check")
    command.add_argument("--threads", type=count, help="of the CPU (default: all cores)")
    return command


@handle_errors("doctor", refused=FAILED)
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    need_paddle()
    from got_train.cpu import settings
    from got_train.doctor import report as reports
    from got_train.doctor.selftest import doctor, has_failed

    settings.tune(options.threads)
    report = doctor(Path(options.folder), options.quick, options.facts, lambda line: print(line, flush=True))
    for name, value in report["machine"].items():
        print(f"{name}: {value}")
    for line in report["advice"]:
        print(f"advice: {line}")
    print(f"{reports.verdict(report)}; see {Path(options.folder) / reports.HTML_FILE}")
    return FAILED if has_failed(report) else PASSED
