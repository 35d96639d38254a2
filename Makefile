# One command each. Whatever needs the virtual environment makes it first.
#   make demo [VIDEO=path]   set up, then encode and decode pictures in motion
#   make test                set up, then run all tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DATA ?= ../shared/data
VIDEO ?=

.PHONY: demo test lint speed train bench ablation clean

demo: $(READY)
	$(BIN)/python examples/demo.py $(if $(VIDEO),--video '$(VIDEO)')

test: $(READY)
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

speed: $(READY)
	$(BIN)/python -m vqcodec.bench.speed

# How weights/base.safetensors was made (docs/training-log.md); resumes if it is stopped.
train: $(READY)
	$(BIN)/vqcodec train --data $(DATA)/train --out runs/base --cache cache/footage \
	  --batch 4 --minutes 97 --lr 1e-3 --warmup 100 --clip-grad 1 --reconstruction log-mse \
	  --commitment 0.25 --perceptual none --short-clips 0.2 --delay 150

# Rate, distortion and speed beside the peers; writes docs/results.md. Results are cached.
bench: $(READY)
	$(BIN)/vqcodec bench --root $(DATA)/eval --limit 64 --json cache/clips.json \
	  --report cache/report --plots docs/img
	$(BIN)/vqcodec bench --root $(DATA)/eval --mode videos --json cache/videos.json
	$(BIN)/vqcodec bench --root $(DATA)/ucf101 --dataset authors --json cache/authors.json
	$(BIN)/vqcodec bench --root $(DATA)/eval --limit 4 --fresh --json cache/speed.json
	$(BIN)/python -m vqcodec.bench.results cache/clips.json cache/videos.json \
	  cache/authors.json $(wildcard cache/ablation.json) cache/speed.json docs/results.md

# Four models of the paper's tables on one small equal budget.
ablation: $(READY)
	$(BIN)/python -m vqcodec.bench.ablation --data $(DATA)/train --root $(DATA)/eval

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist examples/out .pytest_cache .mypy_cache .ruff_cache .hypothesis
