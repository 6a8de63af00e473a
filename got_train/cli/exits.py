"""How every command ends: what a user can mend is one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Sequence

from got_train.errors import ConfigError, GotError, UsageError
from got_train.requirements import silence_paddle
from got_train.strict_files import printable_lines

DONE, FAILED, WRONG_USAGE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

Main = Callable[..., int]


def handle_errors(
    command: str, *, refused: int = WRONG_USAGE, interrupted: str = "interrupted"
) -> Callable[[Main], Main]:
    """Decorate the `main` of a command, so that its errors become `<command>: <message>` and an exit code.

    ConfigError and UsageError end with 2, any other GotError or OSError with `refused`, Ctrl-C with 130.
    Everything else is a fault of ours and keeps its traceback.
    """

    def decorate(main: Main) -> Main:
        @functools.wraps(main)
        def guarded(arguments: Sequence[str] | None = None) -> int:
            _write_utf8()
            silence_paddle()
            try:
                return main(arguments)
            except KeyboardInterrupt:
                say(command, interrupted)
                return INTERRUPTED
            except BrokenPipeError:  # the reader of stdout has gone, as in `got infer ... | head`
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return FAILED
            except (ConfigError, UsageError) as error:
                say(command, str(error))
                return WRONG_USAGE
            except (GotError, OSError) as error:
                say(command, describe(error))
                return refused

        return guarded

    return decorate


def say(command: str, message: str) -> None:
    print(f"{command}: {printable_lines(message)}", file=sys.stderr, flush=True)


def describe(error: Exception) -> str:
    """The message of an error; of one of the system the file first, as in all messages."""
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def leave(code: int) -> None:
    """End the process; one of several without Paddle's tear-down, in which gloo aborts now and then."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _write_utf8() -> None:
    """Texts and names of files can be printed whatever the locale."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # not a text file, as in a test
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
