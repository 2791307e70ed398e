# make demo and make test are all that is needed: both set up .venv first where it is not there yet.
PYTHON ?= python3
IN_VENV := .venv/bin/python
# one test process a core, each with one thread: torch's own threads would fight over the same cores
WORKERS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2); [ $$n -gt 8 ] && echo 8 || echo $$n)
PYTEST = OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(IN_VENV) -m pytest -q -n $(WORKERS) --dist worksteal $(ARGS)

.DEFAULT_GOAL := help
.PHONY: help setup demo docs evidence test test-all lint clean clean-venv

help:  ## show this list
	@echo "Pro-Tuning for MMDetection, MMSegmentation and MMPretrain"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | column -t -s '|' 2>/dev/null \
	  || sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1: \2/p' $(MAKEFILE_LIST)

setup:  ## make .venv with everything in it, compiled operators included (6 to 16 min once, then a second)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 7))' || { \
	  echo "Python 3.10 to 3.13 is needed; '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || echo 'not there')."; \
	  echo "Install one (Debian, Ubuntu: sudo apt-get install python3 python3-venv python3-dev) or select it: make setup PYTHON=python3.11"; \
	  exit 1; }
	@$(PYTHON) tools/dev/setup_venv.py

demo: setup  ## train HTC with a frozen, pro-tuned backbone on real pixels and look at it (6 min on two cores)
	@$(IN_VENV) demo/run.py $(ARGS)

evidence: setup  ## run the studies and write docs/evidence*.md (hours on two cores; goes on where it was stopped)
	@$(IN_VENV) studies/evidence.py --jobs 2 $(ARGS)

test: setup lint  ## lint, then every test that is not slow (at most 15 min on two cores)
	@$(PYTEST) -m 'not slow'

test-all: setup lint  ## lint, then every test
	@$(PYTEST)

docs: setup  ## build the site in build/site; a warning is an error
	@$(IN_VENV) -m sphinx -q -W --keep-going -b html docs build/site
	@echo "build/site/index.html"

lint: setup  ## ruff, mypy, codespell, and the site without a warning
	@$(IN_VENV) -m ruff check .
	@$(IN_VENV) -m mypy
	@$(IN_VENV) -m codespell_lib
	@$(MAKE) --no-print-directory docs

clean:  ## remove what was built and cached; .venv and work_dirs stay
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +

clean-venv: clean  ## remove .venv too
	rm -rf .venv .venv.lock
