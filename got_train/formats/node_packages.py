"""Fetches what sets formulas and tables, once, by npm: python -m got_train.formats.node_packages.

The packages go into a folder of the user's, or stand already in data_tools/node; after that all is offline.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

COMMAND = "python -m got_train.formats.node_packages"
PACKAGES = {"mathpix-markdown-it": "2.0.40", "katex": "0.19.1"}  # exactly these
LICENCES = "LICENCES.txt"


def folder() -> Path:
    """Where the packages are put: GOT_TRAIN_CACHE, or the user's cache."""
    own = os.environ.get("GOT_TRAIN_CACHE")
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(own or Path(cache_home) / "got_train") / "node"


def packages(name: str) -> Path | None:
    """The first folder whose node_modules holds a package; None if none does."""
    folders = (folder(), Path(__file__).parents[2] / "data_tools" / "node")
    return next((path for path in folders if (path / "node_modules" / name / "package.json").is_file()), None)


def main() -> int:
    if shutil.which("npm") is None:
        print(
            "install: npm is not installed; install node with npm, as `make data-tools` does", file=sys.stderr
        )
        return 2
    target = folder()
    target.mkdir(parents=True, exist_ok=True)
    manifest = {"name": "got-train-rendering", "private": True, "dependencies": PACKAGES}
    (target / "package.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    command = ["npm", "install", "--prefix", str(target), "--ignore-scripts", "--no-audit", "--no-fund"]
    if subprocess.run(command, check=False).returncode:
        print(f"install: npm failed; nothing is changed but {target}", file=sys.stderr)
        return 1
    print(told(target))
    return 0


def told(target: Path) -> str:
    """What is installed: its size and its licences, which are listed in a file beside it too."""
    licences = {}
    for file in sorted(target.glob("node_modules/**/package.json")):
        about = _about(file)
        if about.get("name") and about.get("version"):
            licences[f"{about['name']} {about['version']}"] = _licence(about)
    lines = "".join(f"{name}: {licence}\n" for name, licence in sorted(licences.items()))
    (target / LICENCES).write_text(lines, encoding="utf-8")
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    counted = ", ".join(f"{licence} ({count})" for licence, count in Counter(licences.values()).most_common())
    return f"{target}: {len(licences)} packages, {size / 2**20:.0f} MB; licences in {LICENCES}: {counted}"


def _about(file: Path) -> dict:
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError):
        return {}
    return about if isinstance(about, dict) else {}


def _licence(about: dict) -> str:
    licence = about.get("license") or about.get("licenses") or "not said"
    return licence if isinstance(licence, str) else json.dumps(licence)


if __name__ == "__main__":
    sys.exit(main())
