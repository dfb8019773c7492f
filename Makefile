# Every target makes its own environment in .venv; no target needs anything but Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin
# pip would compile every module of every package to bytecode, which takes half of the time. Python compiles the modules
# that are used, when they are first imported
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
ARGS ?=

.PHONY: toy test wheel lint check format notebooks docs docs-serve results everything clean

toy: .venv/installed
	$(BIN)/python -m experiments.toy $(ARGS)

# Workers take the files in the order of testpaths, which ends with short ones: then all workers end at about one time
test: .venv/installed-dev
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder $(ARGS)

# what a user of the package gets: built, installed into an empty environment, and used there
wheel: .venv/installed-dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist . > dist-log.txt 2>&1 || (cat dist-log.txt; false)
	rm dist-log.txt
	$(PYTHON) -m venv --clear dist/venv
	dist/venv/bin/pip install --quiet --disable-pip-version-check -c constraints.txt \
	  "spread_jax[cli] @ file://$(CURDIR)/$$(ls dist/*.whl)"
	cd dist && $(CURDIR)/$(BIN)/python ../tests/people.py people.csv
	cd dist && venv/bin/spread-jax diagnose people.csv
	cd dist && venv/bin/spread-jax fit people.csv --out model --steps 300 --seeds 1
	cd dist && venv/bin/spread-jax sample model -n 500 --out rows.csv

lint: .venv/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

check: lint
	$(BIN)/pytest --numprocesses auto --dist loadfile --no-loadscope-reorder -m "not slow" $(ARGS)

format: .venv/installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# in full, minutes; keeps what they print and draw
notebooks: .venv/installed-dev
	$(BIN)/python notebooks/badges.py
	SPREAD_JAX_QUICK=0 $(BIN)/pytest --overwrite notebooks

# more than two hours; ARGS="--only toy-0.1 --keep"
results: .venv/installed
	$(BIN)/python -m experiments.results $(ARGS)

docs: .venv/installed-docs
	$(BIN)/mkdocs build --strict

# the site at an address that it prints, with its search
docs-serve: .venv/installed-docs
	$(BIN)/mkdocs serve

# all extras: then no test but those of MNIST_DIR and of Chromium is skipped
everything: .venv/installed-dev
	$(PIP_INSTALL) -e '.[dev,bench,data,docs]'

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP_INSTALL) -e '.[cli]'
	touch $@

.venv/installed-dev: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP_INSTALL) -e '.[dev]'
	touch .venv/installed $@

.venv/installed-docs: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP_INSTALL) -e '.[docs]'
	touch .venv/installed $@

clean:
	rm -rf .venv outputs site
