"""What only Unix has is asked for where it is used: a module that needs it to be imported would end Windows.

Nothing here was run on Windows; the missing modules are played by a hook that makes them missing.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
UNIX = {"resource", "fcntl", "termios", "tty", "pty", "pwd", "grp", "syslog", "readline"}
FILES = sorted(path for folder in ("got_train", "data_tools") for path in (ROOT / folder).rglob("*.py"))
HOOK = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name in {unix}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

for name in {unix}:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Missing())
"""


def on_import(tree):
    """The imports that happen when a module is imported, but those that a try stands around."""
    waiting = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
        elif isinstance(node, (ast.If, ast.With, ast.ClassDef)):
            waiting += [*node.body, *getattr(node, "orelse", [])]


def test_no_module_imports_what_only_unix_has():
    found = {
        f"{path.relative_to(ROOT)}: {name}"
        for path in FILES
        for name in on_import(ast.parse(path.read_text(encoding="utf-8")))
        if (name or "").partition(".")[0] in UNIX
    }
    assert len(FILES) > 250 and found == set()


def test_the_search_sees_an_import_in_a_class_and_not_in_a_function():
    source = (
        "import os\nif os.name:\n    import fcntl\nclass A:\n    import pwd\ndef f():\n    import resource\n"
    )
    assert sorted(on_import(ast.parse(source))) == ["fcntl", "os", "pwd"]


def without_unix(statements):
    """Runs statements in a process that has none of these modules."""
    code = f"{HOOK.format(unix=sorted(UNIX))}\n{statements}"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("command", ["init", "check", "train", "infer", "evaluate", "convert-data", "serve"])
def test_commands_show_their_help_without_the_modules_of_unix(command):
    done = without_unix(f"from got_train.cli.__main__ import main\nmain([{command!r}, '--help'])")
    assert done.returncode == 0 and done.stdout.startswith("usage: "), done.stderr


def test_memory_and_heap_are_imported_without_them():
    done = without_unix("import got_train.cpu.heap, got_train.images, got_train.folder_lock")
    assert done.returncode == 0, done.stderr
