# Two commands do everything: `make book` and `make test`. Each sets up its environment first.
PYTHON ?= python3
PROFILE ?= mini
BIN := .venv/bin
READY := .venv/.ready

AXE := axe-playwright-python==0.1.8  # for the axe.min.js in it; the browser driver that it asks for is not needed

# Other processors, emulated: what PyTorch (oneDNN, ATen, MKL) and numba may use of this one.
AVX2 := ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 MKL_ENABLE_INSTRUCTIONS=AVX2 NUMBA_CPU_NAME=generic
BASELINE := ONEDNN_MAX_CPU_ISA=SSE41 ATEN_CPU_CAPABILITY=default MKL_ENABLE_INSTRUCTIONS=SSE4_2 NUMBA_CPU_NAME=generic

.PHONY: setup run book publish-check pdf links test test-fast test-numbers test-portable test-hard coverage audit bench lint types format \
	real lab lock clean

setup: $(READY)

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps $(AXE)
	touch $(READY)

run: setup  ## run the notebooks of a profile into runs/
	$(BIN)/python -m iood_helpers.run --profile $(PROFILE)

book: setup  ## run the notebooks on the shipped data and build the book into book/_build/html
	$(BIN)/python -m iood_helpers.run --profile mini --book
	$(BIN)/python book/build.py

publish-check: book  ## is the book fit to be published? packs book/_build/artifact.tar as the workflow does
	$(BIN)/python book/publish.py

pdf: book  ## the book as one file, book/_build/book.pdf; needs Chromium
	$(BIN)/python book/pdf.py

links: book  ## ask every address in the book
	$(BIN)/jupyter-book build book --builder linkcheck

test: setup
	$(BIN)/python -m pytest

test-fast: setup  ## what needs no notebook, no build and no crowd of processes
	$(BIN)/python -m pytest -m "not slow"

test-numbers: setup  ## the tests that compare numbers, on an emulated baseline processor with one thread
	env $(BASELINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "numbers and not (real_data and slow)"

test-portable: setup  ## the whole suite on four emulated machines
	env $(AVX2) OMP_NUM_THREADS=1 $(BIN)/python -m pytest
	env $(AVX2) OMP_NUM_THREADS=2 $(BIN)/python -m pytest
	env $(BASELINE) OMP_NUM_THREADS=1 $(BIN)/python -m pytest
	env $(BASELINE) OMP_NUM_THREADS=2 $(BIN)/python -m pytest

test-hard: setup  ## 100 000 mutated inputs, 100 kills of each kind of work
	env IOOD_FUZZ_CASES=100000 $(BIN)/python -m pytest tests/test_fuzzing.py
	env IOOD_KILLS=100 $(BIN)/python -m pytest tests/course/test_interruptions.py

coverage: setup  ## which lines of the package the fast tests reach; fails below the floor in pyproject.toml
	$(BIN)/python -m pytest -m "not slow" --cov

audit:  ## compare the lock with the published advisories (asks the package index)
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install --quiet pip-audit
	.venv/audit/bin/pip-audit -r requirements.lock --no-deps --disable-pip

real: setup  ## the same chain on photographs: make real IOOD_DATA=/folder/that/holds/them
	$(BIN)/python -m iood_helpers.run --profile roadanomaly
	for n in 02 04 05; do $(BIN)/python -m iood_helpers.run --profile roadanomaly --run-dir runs/roadanomaly-town \
		--set calibration_split=camvid/val --only $$n || exit 1; done
	$(BIN)/python -m iood_helpers.run --profile camvid

lab: setup  ## JupyterLab with the notebooks and the kernel that they need
	$(BIN)/python -m jupyterlab notebooks

bench: setup  ## measure ours beside the plain way, into benchmarks/RESULTS.md
	$(BIN)/python benchmarks/run.py

lint: setup  ## rules, layout, notebooks without outputs, spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/nbstripout --keep-id --verify notebooks/*.ipynb
	$(BIN)/codespell

types: setup
	$(BIN)/mypy

format: setup
	$(BIN)/ruff check --fix . && $(BIN)/ruff format . && $(BIN)/nbstripout --keep-id notebooks/*.ipynb

lock: setup  ## write what is installed into requirements.lock and environment.yml
	$(BIN)/python tests/support/lockfile.py --write

clean:
	rm -rf runs book/_build book/notebooks
