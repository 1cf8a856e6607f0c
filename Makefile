# Each command makes .venv first, with uv if it is there: .venv/ready is enough to train, .venv/ready-test adds what the
# tests need. Versions are those of constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PARALLEL := -n auto --dist loadscope  # a worker per core; a module's fixtures are made once
INSTALL := $(if $(shell command -v uv),uv pip install --python $(BIN)/python,$(BIN)/pip install) --quiet -c constraints.txt

.PHONY: look demo test quick lint format bench clean

look: .venv/ready
	$(BIN)/python tools/sample.py results/zoo/monet-128.safetensors --num 48 --out runs/look

demo: .venv/ready
	$(BIN)/python train.py --resume results/demo/start-0032.pt --out runs/demo --max-res 64 --fade-kimg 2 \
	    --stable-kimg 40 --stage-minutes 4.4 --sample-kimg 1 --eval-kimg 5 --processes 0 --threads 0

test: quick
	$(BIN)/python -m pytest -n auto -m slow

quick: .venv/ready-test
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow"

lint: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/ready-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/ready
	$(BIN)/python tools/bench.py limits

.venv/ready: requirements.txt pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	    || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	@echo "installing into .venv: about 6 GB with torch, half a minute with uv, some minutes with pip"
	@[ -x $(BIN)/python ] || { rm -rf .venv \
	    && if command -v uv >/dev/null; then uv venv --quiet --python $(PYTHON) .venv; else $(PYTHON) -m venv .venv; fi; }
	@$(INSTALL) -r requirements.txt -e .
	@touch $@

.venv/ready-test: .venv/ready
	@$(INSTALL) -e '.[test]'
	@touch $@

clean:
	rm -rf .venv *.egg-info .pytest_cache .ruff_cache .hypothesis
