# What there is to do with this tree; `make help` lists it. Everything runs in .venv, made from the hash lock.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
PYTHON ?= python3
UV ?= uv
LOCK := requirements-dev.lock
STEPS := step-unit-a step-unit-b step-unit-c step-unit-d step-unit-e step-lint step-format step-types step-imports step-drift
# More jobs than cores: most of a test's time is waiting.
SIDE_BY_SIDE = --keep-going --jobs=$$(($$(nproc) + 3)) --output-sync=target

.PHONY: help .venv demo check test soak lab docs bench lock clean packages $(STEPS)

help: ## list the targets
	@awk -F ':[^#]*## ' '/^[a-z.]+:[^#]*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The stamp holds the digest of the lock and the place (an environment cannot be moved); it is written last, so that
# an environment that was only half made is made again. One that stands costs no network.
.venv: ## make the environment, where it is missing or the lock has changed
	@want="$$(sha256sum < $(LOCK) | cut -c1-64) $(CURDIR)"; \
	if [ "$$(cat .venv/made-from 2>/dev/null)" = "$$want" ] && .venv/bin/python -c '' 2>/dev/null; then exit 0; fi; \
	echo "making .venv from $(LOCK) (once; about a minute)"; \
	rm -rf .venv; \
	$(PYTHON) -m venv .venv; \
	export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1; \
	.venv/bin/pip install --quiet --require-hashes --requirement $(LOCK); \
	.venv/bin/pip install --quiet --no-deps --no-build-isolation --no-index --editable .; \
	echo "$$want" > .venv/made-from

demo: .venv ## broker, agent and live table in one command; ARGS="--duration 20s --json"
	@.venv/bin/siteprobe demo $(ARGS)

check: .venv ## lint, types, imports, drift, unit tests: no root, no network
	@$(MAKE) $(SIDE_BY_SIDE) $(STEPS)

test: .venv packages ## everything: check, then real daemons and network namespaces (root installs what it needs)
	@$(MAKE) $(SIDE_BY_SIDE) $(STEPS)
	@.venv/bin/python -m tests.once_more tests/real tests/lab

soak: .venv packages ## the long runs, and the unit under a real systemd, about 55 minutes, a line for each; ARGS="-k broker"
	@.venv/bin/python -m pytest --quiet tests/soak $(ARGS)

lab: .venv packages ## inject every fault of the lab, about 7 minutes, print the table; ARGS=--write keeps it, ARGS=UPS plays some
	@.venv/bin/python -m tests.lab $(ARGS)

docs: .venv ## write what is generated from the code: config/, docs/
	@.venv/bin/python -m agent.describe

bench: .venv ## measure memory, CPU, disk, start and echoes; ARGS=quick for a short one, ARGS=icmp for echoes only
	@.venv/bin/python -m bench.run $(ARGS)

lock: ## resolve the dependencies into both lock files (needs uv); ARGS=--upgrade for newer ones
	@command -v $(UV) > /dev/null || { echo "make lock needs uv: pip install uv, then make lock UV=/path/to/uv"; exit 2; }
	@export UV_CUSTOM_COMPILE_COMMAND="make lock"; \
	resolve="$(UV) pip compile --quiet --universal --generate-hashes --no-emit-index-url --python-version 3.11 pyproject.toml"; \
	$$resolve $(ARGS) --extra demo --extra dev --output-file $(LOCK); \
	rm -f requirements.lock; \
	$$resolve --constraint $(LOCK) --output-file requirements.lock

clean: ## remove everything that was made here
	@rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis
	@find agent tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

packages: # Debian packages of the tests, where root may install them; without them those tests are skipped by name
	@tests/install-debian-packages

# Each step is one line when it passes, and its whole output when it does not.
define quietly
@out="$$($(2) 2>&1)" && echo "ok    $(1)" || { printf '%s\nFAILED $(1)\n' "$$out"; exit 1; }
endef

step-lint:
	$(call quietly,ruff check,.venv/bin/ruff check --quiet .)
step-format:
	$(call quietly,ruff format,.venv/bin/ruff format --check --quiet .)
step-types:
	$(call quietly,mypy --strict,.venv/bin/mypy)
step-imports:
	$(call quietly,imports go down,.venv/bin/lint-imports)
step-drift:
	$(call quietly,generated files are as the code says,.venv/bin/python -m agent.describe --check)
step-unit-a:
	@.venv/bin/python -m pytest --quiet tests/unit/test_[a-c]*.py
step-unit-b:
	@.venv/bin/python -m pytest --quiet tests/unit/test_[d-l]*.py
step-unit-c:
	@.venv/bin/python -m pytest --quiet tests/unit/test_[m-o]*.py
step-unit-d:
	@.venv/bin/python -m pytest --quiet tests/unit/test_[p-r]*.py
step-unit-e:
	@.venv/bin/python -m pytest --quiet tests/unit/test_[s-z]*.py
