"""The benchmarks that `got evaluate` knows, and the official tool's values beside ours: got benchmarks."""

from __future__ import annotations

from collections.abc import Sequence

from .arguments import CommandParser
from .exits import DONE, handle_errors


def parser() -> CommandParser:
    command = CommandParser(
        "benchmarks",
        description="List the benchmarks with their versions, data, licences and published values.",
        epilog="Exit codes: 0 listed, 2 wrong usage or files.",
    )
    command.add_argument("name", nargs="?", metavar="NAME", help="all that is known of one benchmark")
    command.add_argument(
        "--compare",
        nargs=2,
        metavar=("RESULTS", "SCORES"),
        help="OmniDocBench: the official tool's result files beside a folder of ours, page by page",
    )
    return command


@handle_errors("benchmarks")
def main(arguments: Sequence[str] | None = None) -> int:
    options = parser().parse_args(arguments)
    from got_train.evaluation.benchmarks import catalog
    from got_train.evaluation.benchmarks.omnidocbench import official

    print(official.compare(*options.compare) if options.compare else catalog.listed(options.name))
    return DONE
