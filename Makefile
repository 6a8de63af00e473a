# Two commands do everything on a fresh machine: `make quickstart` and `make test`.
# PYTHON makes the virtual environment; a GPU user installs paddlepaddle-gpu into .venv and sets EXTRAS=data,dev.
PYTHON ?= python3
EXTRAS ?= cpu,data,dev
BIN := .venv/bin

.PHONY: quickstart nano test check style clean

.venv/.installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[$(EXTRAS)]"
	touch $@

# pages, three stages at nano size, evaluation, one page read (no download of weights or data)
quickstart: .venv/.installed
	$(BIN)/python -m got_train.quickstart

# the nano checkpoint in configs/nano/weights, from nothing
nano: .venv/.installed
	$(BIN)/python -m got_train.nano

test: .venv/.installed
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m pytest

style: .venv/.installed
	$(BIN)/python -m ruff format .
	$(BIN)/python -m ruff check --fix .

clean:
	rm -rf .venv .venv-reference build *.egg-info .pytest_cache .ruff_cache
