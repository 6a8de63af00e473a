"""A run as one page to look at: python -m got_train.cli.report RUN writes RUN/report.html.

train.py writes the same page at the end of a run; here it is made again, such as of a run under way.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from got_train.run_report.page import write_report

WRITTEN, FAILED = 0, 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m got_train.cli.report",
        allow_abbrev=False,
        description="Write report.html into the folder of a run: verdict, skills, curves, samples, settings.",
        epilog="Exit codes: 0 written, 2 the folder holds no run.",
    )
    parser.add_argument("run", metavar="RUN", help="the output_dir of a run, complete or not")
    options = parser.parse_args(arguments)
    try:
        print(write_report(options.run))
        return WRITTEN
    except (ValueError, OSError) as error:
        print(f"report_run: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    sys.exit(main())
