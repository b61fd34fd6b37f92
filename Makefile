# Everything a fresh machine needs is Python >= 3.11 and make: the rest is installed into .venv here.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo dev test slow chaos taubench bench check fmt lock clean

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(STAMP) ## see an agent work, on a real Kafka and a real Postgres; no Docker, no keys
	@$(BIN)/dramac demo

dev: $(STAMP) ## run everything here until Ctrl-C
	@$(BIN)/dramac dev

test: $(STAMP) ## tests, in memory and against real servers, but for those of `make slow`
	@$(BIN)/python -m pytest -m "not slow" -n 3 --dist loadfile --no-loadscope-reorder $(ARGS)

slow: $(STAMP) ## tests of real servers and processes that take longer
	@$(BIN)/python -m pytest -m slow -n 2 --dist loadfile $(ARGS)

chaos: $(STAMP) ## 1,000 simulated worlds, then 200 real kills
	@$(BIN)/python -m tests.simulation --seeds 1000 --jobs 2
	@$(BIN)/python -m tests.chaos --kills 200

taubench: $(STAMP) ## 135 recorded tasks of a shop on real servers, while workers are killed
	@$(BIN)/python -m tests.taubench --kills 20

bench: $(STAMP) ## runs a second on this machine, and what each costs
	@$(BIN)/dramac bench --bare

check: $(STAMP) ## format, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fmt: $(STAMP) ## mend format and lint
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: $(STAMP) ## pin every dependency, with hashes, for every platform
	$(BIN)/uv pip compile --universal --generate-hashes --no-header --quiet --all-extras \
	    --python-version 3.11 pyproject.toml -o requirements.lock

clean: ## remove what was installed here; data of the embedded stack stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(STAMP): requirements.lock pyproject.toml
	@PYTHON="$(PYTHON)" sh infra/install.sh $(VENV)
	@touch $@
