"""A run as one page to look at: got report RUN writes RUN/report.html.

got train writes the same page at the end of a run; here it is made again, such as of a run under way.
"""

from __future__ import annotations

from collections.abc import Sequence

from .arguments import CommandParser
from .exits import DONE, handle_errors


def parser() -> CommandParser:
    parser = CommandParser(
        "report",
        description="Write report.html into the folder of a run: verdict, skills, curves, samples, settings.",
        epilog="Exit codes: 0 written, 2 the folder holds no run.",
    )
    parser.add_argument("run", metavar="RUN", help="the output_dir of a run, complete or not")
    parser.add_argument(
        "--beside",
        default="",
        metavar="FILE|FOLDER",
        help="another system's answers to the rows read at the end",
    )
    return parser


@handle_errors("report")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    # after the arguments: this imports Paddle, which takes seconds
    from got_train.run_report.page import write_report

    print(write_report(options.run, other_system=options.beside))
    return DONE
