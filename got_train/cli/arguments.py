"""Arguments as every command reads them: one spelling of flags, old names refused with the new one."""

from __future__ import annotations

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any

# flags of earlier versions; one that only changed from snake_case to kebab-case needs no line
RENAMED = {
    "--no_tune_cpu": "--no-cpu-tuning",
    "--spare_structure": "--allow-table-repeats",
    "--per": "--group-by",
    "--cdm": "--cdm-timeout",
    "--dialect": "--prompt-template",
    "--no_page": "--no-report",
    "--max_tiles": "--max-crops",
    "--glyphs": "--char-boxes",
}


class CommandParser(argparse.ArgumentParser):
    """argparse for `got <command>` (or prog): flags are written out; an unknown one is told its nearest."""

    def __init__(self, command: str = "", **settings: Any) -> None:
        super().__init__(**{"prog": f"got {command}", "allow_abbrev": False} | settings)

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        args = sys.argv[1:] if args is None else list(args)
        for word in args[: args.index("--")] if "--" in args else args:
            flag = word.partition("=")[0]
            if flag.startswith("--") and flag not in self._option_string_actions:
                self._refuse(flag)
        return super().parse_known_args(args, namespace)

    def _refuse(self, flag: str) -> None:
        known = self._option_string_actions
        snake, kebab = flag[2:].replace("-", "_"), "--" + flag[2:].replace("_", "-")
        renamed = RENAMED.get("--" + snake, kebab)
        if renamed in known:
            self.error(f"{flag}: renamed; use {renamed}")
        near = difflib.get_close_matches(kebab, known, 1)
        self.error(f"{flag}: no such option" + (f"; did you mean {near[0]}?" if near else "; see --help"))


def count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r}; expected a whole number, 0 or more")
    return int(text)
