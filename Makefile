# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
# PYTHON makes the virtual environment; a GPU user installs paddlepaddle-gpu into .venv and sets EXTRAS=data,dev.
PYTHON ?= python3
EXTRAS ?= cpu,data,dev
TESTS ?=  # folders or files of tests; empty: all
WORKERS ?= 2  # processes that run tests side by side, 3 GB of memory each
BIN := .venv/bin

# what the optional data engines draw with; Debian's names
PROGRAMS := nodejs chromium fontconfig tesseract-ocr tesseract-ocr-eng texlive-latex-base \
  texlive-latex-recommended texlive-latex-extra texlive-fonts-recommended texlive-pictures texlive-xetex \
  texlive-lang-chinese texlive-lang-cjk lmodern
FONTS := fonts-wqy-microhei fonts-arphic-ukai fonts-arphic-gkai00mp fonts-arphic-gbsn00lp fonts-lxgw-wenkai \
  fonts-breip fonts-dancingscript fonts-dkg-handwriting fonts-kristi fonts-rufscript fonts-sjfonts
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: quickstart nano test test-bare fuzz golden bench data-tools style clean

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"
	$(BIN)/got precompile
	touch $@

# pages, three stages at nano size, evaluation, one page read (no download of weights or data)
quickstart: .venv/.installed
	$(BIN)/got quickstart

# the nano checkpoint in configs/nano/weights, from nothing
nano: .venv/.installed
	$(BIN)/got nano

# programs and fonts of the optional data engines (Debian or Ubuntu), npm's and Python's packages for them
data-tools: .venv/.installed
	$(SUDO) apt-get update -qq
	$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends $(PROGRAMS) $(FONTS)
	command -v npm > /dev/null || $(SUDO) apt-get install -qq -y --no-install-recommends npm
	npm install --prefix data_tools/node --no-package-lock --no-audit --no-fund
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS),engines,formulas,ray]"

test: .venv/.installed
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/lint-imports
	$(BIN)/got precompile
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(TESTS)

# the same as a machine without the optional programs, fonts and packages would run it, whatever this one has
test-bare:
	TESTS="$(TESTS)" .ci/bare

# 2,000 mutations of every kind of file that is read, seeds printed: the table of docs/robustness.md
fuzz: .venv/.installed
	$(BIN)/python -m tests.robustness.fuzz

# the golden losses of tests/training/test_golden_losses.py, after a change that moves numbers on purpose
golden: .venv/.installed
	$(BIN)/python tests/golden_losses.py

# our speed and memory beside transformers': GOT_REFERENCE_PYTHON names an interpreter with torch and transformers
bench: .venv/.installed
	$(BIN)/python -m benchmarks.transformers

style: .venv/.installed
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean:
	rm -rf .bare .venv .venv-reference data_tools/node/node_modules build *.egg-info .pytest_cache .ruff_cache
