# Everything this page can do is also `python3 -m stack ...`; see docs/guides/run-it.md.
PYTHON ?= python3
.DEFAULT_GOAL := help
.PHONY: help install install-dev run test check bench lock clean

help:         ## Say what there is
	@sed -n 's/^\([a-z-]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 22

install:      ## Make .venv and install what running needs
	@$(PYTHON) -m stack install

install-dev:  ## The same, and what testing needs
	@$(PYTHON) -m stack install --dev

run: install  ## Start everything here: database, broker, web, ingestion, worker, beat
	@exec $(PYTHON) -m stack run

test: install-dev  ## Every check, then the test suite; ARGS="-k words" goes to pytest
	@exec $(PYTHON) -m stack test $(ARGS)

check: install-dev  ## Formatting, lint, types, import directions, migrations
	@exec $(PYTHON) -m stack check

bench: install-dev  ## Measure, side by side with the plain ways
	@exec $(PYTHON) -m stack exec -- .venv/bin/python -m bench $(ARGS)

lock:         ## Compile the hashed locks anew from requirements.in and requirements-dev.in
	@$(PYTHON) -m stack lock

clean:        ## Remove .venv and caches; never var/, where your data is
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -path ./var -prune -o -name __pycache__ -type d -exec rm -rf {} +
