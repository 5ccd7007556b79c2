# make demo and make test are all that a fresh clone needs. VENV=/path shares an environment.
VENV ?= .venv
PYTHON ?= python3
RUN = $(VENV)/bin/python
JOBS ?= 2

.PHONY: help demo test test-slow bench gpu-check lint report-env

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: requirements.txt requirements-dev.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install -q -r requirements-dev.txt
	touch $@

demo: $(VENV)/.installed  ## train and evaluate both methods on a small generated world
	$(RUN) -m demo.run

test: $(VENV)/.installed  ## the fast suite
	$(RUN) -m pytest -m "not slow" -n $(JOBS) tests

test-slow: $(VENV)/.installed  ## what takes minutes; INSTALL_SLURM=1 lets it install SLURM (Debian, root)
	$(RUN) -m pytest -m slow tests

bench: $(VENV)/.installed  ## time the fast form against the plain one; half an hour on 2 cores
	$(RUN) -m benchmarks.run

gpu-check: $(VENV)/.installed  ## numbers, runs, speed on one NVIDIA GPU; offline, 8 minutes; fails if anything is off
	$(RUN) -m benchmarks.gpu_check

lint: $(VENV)/.installed  ## check style and types; fails on any finding
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

report-env: $(VENV)/.installed  ## what to paste into a bug report
	$(RUN) -c "from dassl.utils import collect_env_info; print(collect_env_info())"
