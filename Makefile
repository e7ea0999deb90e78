# make demo   a tomogram with known objects, segmented, scored and drawn: see demo/
# make test   everything that CI checks
# make check  the static checks alone
# make browser  a Chromium for the test of the report: a Debian package, as root
# make bench  the parts of a run, timed, beside the last time: see .benchmarks/
# make docs   the documentation as a site: see site/index.html

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
STAMP := $(VENV)/installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test check browser bench docs format clean

demo: $(STAMP)
	$(BIN)/python benchmarks/demo.py demo

test: check browser
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# without one, and without root to install it, the test is skipped
browser:
	@for name in chromium-headless-shell chromium chromium-browser google-chrome; do \
	  command -v $$name >/dev/null && exit 0; \
	done; \
	[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0; \
	apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -yqq \
	  -o DPkg::Lock::Timeout=120 --no-install-recommends chromium-headless-shell >/dev/null \
	  || echo 'make browser: no Chromium could be installed' >&2

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[bench]'
	$(BIN)/python -m pytest benchmarks/parts.py --benchmark-autosave --benchmark-compare \
	  --benchmark-sort=fullname --benchmark-columns=min,median,rounds

docs: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(STAMP): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	# for its schemas alone: what it needs to run, an operator's libraries, is left out
	$(BIN)/python -m pip install --quiet --no-deps 'dask-kubernetes>=2026.3'
	touch $@

clean:
	rm -rf $(VENV) demo site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
