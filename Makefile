# Two commands do everything: `make book` and `make test`. Each sets up its environment first.
PYTHON ?= python3
PROFILE ?= mini
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup run book test bench lint format real lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $(READY)

run: setup  ## run the notebooks of a profile into runs/
	$(BIN)/python -m iood_helpers.run --profile $(PROFILE)

book: setup  ## run the notebooks on the shipped data and build the book into book/_build/html
	$(BIN)/python -m iood_helpers.run --profile mini --book
	$(BIN)/python book/build.py

test: setup
	$(BIN)/python -m pytest

real: setup  ## the same chain on photographs: make real IOOD_DATA=/folder/that/holds/camvid
	$(BIN)/python -m iood_helpers.run --profile camvid

bench: setup  ## measure ours beside the plain way, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

lint: setup
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/nbstripout --verify notebooks/*.ipynb

format: setup
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/nbstripout notebooks/*.ipynb

lock: setup  ## write what is installed into requirements.lock and environment.yml
	$(BIN)/python tests/lockfile.py --write

clean:
	rm -rf runs book/_build book/notebooks book/_static/vendor
