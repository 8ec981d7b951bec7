# make test: install, lint, check types, run the tests.   make demo: install, forget, report.
# make docs: build the documentation into site/, offline, and stop at the first broken link.
# make dist: build wheel and sdist into dist/, and start the wheel in an environment without pip.
# Needs Python 3.11 or newer with pip, and nothing else. Another Python: make PYTHON=python3.12 test

PYTHON ?= python3
VENV ?= .venv
DEMO_ARGS ?=
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready

.PHONY: test lint check demo docs dist install clean
.DEFAULT_GOAL := test

test: lint check

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# One thread for each worker: two that share two cores would wait for each other. Bytecode is kept:
# every process that the tests start would compile the package again.
check: $(READY)
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal

demo: $(READY)
	$(BIN)/expunge demo $(DEMO_ARGS)

docs: $(DOCS_READY)
	$(BIN)/python scripts/make_docs.py --check
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

dist: $(READY)
	$(BIN)/pip install --quiet 'build>=1.2'
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv --without-pip dist/check
	$(BIN)/pip --python dist/check/bin/python install --quiet --no-deps dist/expunge-*.whl
	cd dist && PYTHONPATH=$$($(abspath $(BIN))/python -c 'import cyclopts, pathlib; \
	  print(pathlib.Path(cyclopts.__file__).parents[1])') check/bin/expunge --version

install: $(READY)

# The stamp is newer than pyproject.toml exactly when what it asks for is installed.
# Where Python comes without ensurepip, its own pip fills the environment.
$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo 'error: expunge needs Python 3.11 or newer, and $(PYTHON) is older or missing' >&2; \
	  echo '  fix: install one, then for example: make PYTHON=python3.12 test' >&2; exit 2; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV) && \
	  $(PYTHON) -m venv --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install pip; }
	$(BIN)/pip install --quiet -e '.[dev]'
	@touch $@

$(DOCS_READY): $(READY)
	$(BIN)/pip install --quiet -e '.[docs]'
	@touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis dist site
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
