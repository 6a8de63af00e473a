"""The command `got`: its overview, its table of sub-commands, and how every command ends."""

import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from got_train import cli
from got_train.cli import __main__ as command
from got_train.cli.arguments import CommandParser
from got_train.cli.exits import handle_errors
from got_train.errors import CheckpointError, ConfigError, DataError, UsageError

ROOT = Path(__file__).parents[2]
HELPERS = {"__main__", "arguments", "exits"}  # modules of the package that are no command


def test_the_overview_fits_a_screen_and_is_there_in_a_third_of_a_second_without_paddle(processor_seconds):
    script = (
        "import sys; from got_train.cli.__main__ import main; main(['--help']); "
        "print(sorted({'paddle', 'numpy', 'PIL', 'yaml', 'argparse'} & set(sys.modules)), file=sys.stderr)"
    )
    began = processor_seconds()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert processor_seconds() - began < 1 / 3
    lines = done.stdout.splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 100
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(command.COMMANDS)
    assert done.stderr == "[]\n"


def test_the_name_of_a_file_cannot_command_the_terminal(capsys):
    assert command.main(["trace", "\x1b[2J\u4e2d", "--step", "1"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("trace: \\x1b[2J\u4e2d") and "\x1b" not in err


def test_no_command_imports_paddle_before_it_knows_its_arguments():
    script = (
        "import importlib, sys\n"
        f"for name in {[name.replace('-', '_') for name in command.COMMANDS]}:\n"
        "    importlib.import_module(f'got_train.cli.{name}').parser()\n"
        "    assert not {'paddle', 'paddlenlp'} & set(sys.modules), name\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


@pytest.mark.parametrize("name", ["check", "init", "convert-data", "render"])
def test_the_help_of_the_first_commands_and_of_those_without_a_model_is_there_in_a_third_of_a_second(
    name, processor_seconds
):
    began = processor_seconds()
    subprocess.run([sys.executable, "-m", "got_train", name, "--help"], cwd=ROOT, stdout=subprocess.DEVNULL)
    assert processor_seconds() - began < 1 / 3


def test_every_module_of_the_package_is_a_command_and_the_other_way_round():
    modules = {module.name for module in pkgutil.iter_modules(cli.__path__)}
    assert modules - HELPERS == {name.replace("-", "_") for name in command.COMMANDS}


@pytest.mark.parametrize("name", command.COMMANDS)
def test_every_command_shows_its_help_under_its_name(name, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: got {name} ")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("evalute", "got: evalute: no such command; did you mean evaluate?\n"),
        ("convert_data", "got: convert_data: no such command; did you mean convert-data?\n"),
        ("xyzzy", "got: xyzzy: no such command; see got --help\n"),
    ],
)
def test_an_unknown_command_is_told_its_nearest(given, message, capsys):
    assert command.main([given]) == 2
    assert capsys.readouterr().err == message


def test_python_m_got_train_is_the_same_command():
    done = subprocess.run(
        [sys.executable, "-m", "got_train", "infer"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: got infer ")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (DataError("a.jsonl:3: empty; expected a row"), 1, "x: a.jsonl:3: empty; expected a row\n"),
        (CheckpointError("w: cut off; copy it again"), 1, "x: w: cut off; copy it again\n"),
        (ConfigError("train.sed: no such setting"), 2, "x: train.sed: no such setting\n"),
        (UsageError("--srt: needs --video-file"), 2, "x: --srt: needs --video-file\n"),
        (OSError(28, "No space left on device", "out"), 1, "x: out: No space left on device\n"),
        (OSError("no such file of weights"), 1, "x: no such file of weights\n"),
        (KeyboardInterrupt(), 130, "x: stopped\n"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_an_exit_code(error, code, line, capsys):
    @handle_errors("x", refused=1, interrupted="stopped")
    def main(arguments=None):
        raise error

    assert (main([]), capsys.readouterr().err) == (code, line)


@pytest.mark.parametrize("error", [ValueError("shapes"), KeyError("a"), RuntimeError("out of memory")])
def test_a_fault_of_the_program_keeps_its_traceback(error):
    @handle_errors("x")
    def main(arguments=None):
        raise error

    with pytest.raises(type(error)):
        main([])


def test_a_reader_that_has_seen_enough_ends_a_command_without_a_word():
    script = (
        "import sys\nfrom got_train.cli.exits import handle_errors, leave\n"
        "@handle_errors('x')\ndef main(arguments=None):\n"
        "    for number in range(100000):\n        print(number, flush=True)\n    return 0\nleave(main())"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout.readline() == b"0\n"
        running.stdout.close()
        assert (running.wait(30), running.stderr.read()) == (1, b"")


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--batch_size=4", "--batch_size: renamed; use --batch-size"),
        ("--per", "--per: renamed; use --group-by"),
        ("--batchsize", "--batchsize: no such option; did you mean --batch-size?"),
        ("--xyzzy", "--xyzzy: no such option; see --help"),
    ],
)
def test_an_old_or_unknown_flag_is_told_the_one_to_use(flag, message, capsys):
    parser = CommandParser("x")
    for name in ("--batch-size", "--group-by", "--ocr-type"):
        parser.add_argument(name)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args([flag, "4"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"got x: error: {message}\n")


def test_words_after_two_dashes_are_no_flags():
    parser = CommandParser("x")
    parser.add_argument("names", nargs="*")
    assert parser.parse_args(["--", "--batch_size"]).names == ["--batch_size"]
