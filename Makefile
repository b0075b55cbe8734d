# `make run` needs Python 3.11 or newer, and a network the first time; nothing is installed anew until a
# requirement changes. `make help` lists the targets.

PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check --no-input
SOURCES := $(shell find regsvc -type f ! -name '*.pyc')
# What the tests import and start is the built wheel, not the checkout.
WHEEL := build/installed
REPORT := build/tests.xml
# Tests wait as much as they work: twice as many processes as the two cores that they are measured on.
WORKERS ?= 4
PARALLEL = -n $(WORKERS) --dist worksteal

.PHONY: help run test check weights realities faults upgrade figures drill trace growth fuzz bench image sbom tools lint format docs pins clean

help:
	@echo 'make run     install into $(VENV) and start `regsvc dev`'
	@echo 'make test    check and test everything, the way CI does'
	@echo 'make check   lint, types and the tests that need no server, within a minute'
	@echo 'make weights note how long the tests took in the last `make test`, for their order'
	@echo 'make faults  kill and cut everything for half an hour, and print what came of it'
	@echo 'make figures long outages and many mails, for a quarter of an hour'
	@echo 'make upgrade roll the released version over to this one and back under load'
	@echo 'make realities what takes a cluster, other versions or a proxy, for some fifteen minutes'
	@echo 'make drill   lose a database and restore it from a backup, for two minutes'
	@echo 'make trace   sign one person up on real servers and print the trace, to the reply of the mail server'
	@echo 'make growth  hold every statement against a small and a large database, for two minutes'
	@echo 'make fuzz    make 100,000 connections to the server that say anything at all'
	@echo 'make bench   measure speed and memory, for some six minutes'
	@echo 'make image   build the container image, labelled with version and commit'
	@echo 'make sbom    list what it contains into build/regsvc.cdx.json'
	@echo 'make tools   build Helm and kubeconform with Go, for the tests of the chart'
	@echo 'make lint    check formatting, style, types and migrations alone'
	@echo 'make format  format the code'
	@echo 'make docs    generate the calls in docs/api.md and the settings of the Helm chart from the code'
	@echo 'make pins    pin requirements/*.txt to the newest versions that fit pyproject.toml'
	@echo 'make clean   remove what was installed and built, never .regsvc'

# On a terminal the program gets a process group of its own, so that Ctrl-C reaches it and not make, which would
# turn a clean end into an error.
run: $(VENV)/.base
	@if $(BIN)/python -c 'import os; raise SystemExit(os.tcgetpgrp(0) != os.getpgrp())' 2>/dev/null; then \
		set -m; trap : TERM; $(BIN)/regsvc dev; \
	else \
		exec $(BIN)/regsvc dev; \
	fi

# A test that fails beside others is run once more by itself: some measure what a busy machine cannot give. What failed
# is shown both times, and the last lines name what passed alone only: a test that is often among them has a fault.
# Modules are compiled once, also where the environment says otherwise: tests start hundreds of processes.
INSTALLED := PYTHONDONTWRITEBYTECODE= PYTHONPATH='$(CURDIR)/$(WHEEL)' PYTHONSAFEPATH=1 REGSVC_TEST_INSTALLED='$(CURDIR)/$(WHEEL)'
FAILED := $(BIN)/python -c 'import json; print(*json.load(open(".pytest_cache/v/cache/lastfailed")), sep="\n")'
test: lint tools $(WHEEL)
	@$(INSTALLED) $(BIN)/pytest $(PARALLEL) --junit-xml=$(REPORT); code=$$?; [ $$code -eq 1 ] || exit $$code; \
		failed=$$($(FAILED)); printf '\n=== FAILED BESIDE OTHERS; once more, and alone: ===\n%s\n' "$$failed"; \
		$(INSTALLED) $(BIN)/pytest --last-failed --last-failed-no-failures none; code=$$?; \
		printf '\n=== FAILED BESIDE OTHERS, whatever the second look says: ===\n%s\n' "$$failed"; exit $$code

check: lint
	PYTHONDONTWRITEBYTECODE= $(BIN)/pytest $(PARALLEL) -q -m 'not server'

# What the order of the tests is made of, from the last whole run.
weights: $(VENV)/.test
	$(BIN)/python -m tests.suite.weights $(REPORT)

# What docs/reliability.md shows; FAULTS="--help" lists what can be chosen.
faults: $(VENV)/.test
	$(BIN)/python -m tests.faults $(FAULTS)
	REGSVC_TEST_ROUNDS=1000 $(BIN)/pytest -q tests/factors/test_one_code.py tests/http/test_login_code.py -k one_code

figures: $(VENV)/.test
	$(BIN)/python -m tests.faults outage many plan held

# What takes a cluster, a proxy, or versions that few have. REALITIES names files of tests/realities.
REALITIES := $(addprefix tests/realities/,broker_cluster.py broker_4.py proxies.py full_disk.py wheels.py \
	python_next.py verifiers.py webhook_verifiers.py postgres_versions.py failover.py drill.py postfix.py bounces.py)
realities: $(VENV)/.test
	$(BIN)/pytest -s -p no:cacheprovider $(REALITIES)

# From the released version to this one and back, while people sign up; and back to it with all that it does not know.
upgrade: $(VENV)/.test
	$(BIN)/pytest -s -p no:cacheprovider tests/realities/upgrade.py tests/realities/beside.py

# What docs/backup.md shows: a database is lost and restored.
drill: $(VENV)/.test
	$(BIN)/python -m tests.drill

# What docs/operations.md shows of traces.
trace: $(VENV)/.test
	@mkdir -p build; rm -f build/trace.txt; \
		REGSVC_TEST_TRACE='$(CURDIR)/build/trace.txt' $(BIN)/pytest -q -p no:cacheprovider tests/tracing/test_tree.py; \
		code=$$?; cat build/trace.txt; exit $$code

# What docs/performance.md shows of databases that have grown.
growth: $(VENV)/.test
	$(BIN)/python -m tests.growth

# What docs/security.md shows; FUZZ="--help" lists what can be chosen.
fuzz: $(VENV)/.test
	$(BIN)/python -m tests.http.fuzzer $(FUZZ)

# The image with its labels: the same commit gets the same ones. SOURCE is where this repository can be read.
SOURCE ?=
IMAGE ?= regsvc
image:
	docker build --tag $(IMAGE) \
		--build-arg VERSION="$$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
		--build-arg REVISION="$$(git rev-parse HEAD)" \
		--build-arg CREATED="$$(TZ=UTC git log -1 --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd)" \
		--build-arg SOURCE='$(SOURCE)' .

# Helm and kubeconform for the tests of the chart, where there is Go. Helm takes minutes, once for each user.
tools: $(VENV)/.test
	$(BIN)/python -m tests.tools.go_programs

# What the image and a wheel's installation contain, by the pins (CycloneDX).
sbom: $(VENV)/.test
	@mkdir -p build
	$(BIN)/python -m tests.tools.sbom > build/regsvc.cdx.json

# What docs/performance.md shows; each of them has options and says so with --help.
BENCHES := broker me shares mailer logins neighbours fairness pool signup_latency live_status pages dev_start memory websockets
bench: $(VENV)/.test
	@for name in $(BENCHES); do echo "== bench/$$name.py" && $(BIN)/python bench/$$name.py || exit 1; done

lint: $(VENV)/.test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@$(BIN)/squawk --no-error-on-unmatched-pattern regsvc/postgres/migrations/*.sql
	@$(BIN)/python -m tests.suite.prose

format: $(VENV)/.test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/.test
	$(BIN)/python -m tests.suite.api_page >/dev/null
	$(BIN)/python -m tests.tools.chart_schema

$(BIN)/python:
	@for python in $(PYTHON) python3 python3.15 python3.14 python3.13 python3.12 python3.11; do \
		$$python -c 'import sys; raise SystemExit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		echo "Making $(VENV) with $$($$python --version) …"; \
		mkdir -p build && $$python -m venv --clear $(VENV) >build/venv.log 2>&1 && exit 0; \
		$$python -m virtualenv --quiet --clear $(VENV) 2>/dev/null && exit 0; \
		cat build/venv.log >&2; rm -rf $(VENV); \
		echo "$$python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	done; \
	echo 'regsvc needs Python 3.11 or newer; name one with: make run PYTHON=/path/to/python3' >&2; \
	exit 1

# The lists have hashes, so pip takes nothing else. What builds the project itself comes from such a list, too.
$(VENV)/.base: requirements/base.txt requirements/build.txt pyproject.toml | $(BIN)/python
	@echo 'Installing into $(VENV) …'
	@$(PIP) install -r requirements/base.txt -r requirements/build.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.txt $(VENV)/.base
	@echo 'Installing what the tests need …'
	@$(PIP) install -r requirements/test.txt
	@touch $@

$(WHEEL): $(SOURCES) pyproject.toml README.md LICENSE $(VENV)/.test
	@rm -rf build
	@$(BIN)/python -m build --wheel --no-isolation --outdir build . >/dev/null
	@$(PIP) install --no-deps --no-index --target $@ build/regsvc-*.whl

# For every machine at once, with the hash of every file that the index has of a version. A list takes over the
# versions of the one before it. uv reads no pip.conf; an index of one's own is named by UV_DEFAULT_INDEX.
COMPILE := build/pins/bin/uv --quiet pip compile --universal --python-version 3.11 --upgrade \
	--generate-hashes --no-header --no-annotate
pins: | $(BIN)/python
	@set -e; $(BIN)/python -m venv --clear build/pins; build/pins/bin/pip install --quiet uv; \
	for list in serve base test build; do \
		case $$list in \
			serve) set -- pyproject.toml ;; \
			base) set -- pyproject.toml --extra embedded -c requirements/serve.txt ;; \
			test) set -- pyproject.toml --extra embedded --extra otel --group test -c requirements/base.txt ;; \
			build) set -- --group build -c requirements/test.txt ;; \
		esac; \
		$(COMPILE) "$$@" --output-file requirements/$$list.txt >/dev/null; \
	done; rm -rf build/pins

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
