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
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

speed: $(READY)
	$(BIN)/python -m vqcodec.bench.speed $(if $(VIDEO),--video '$(VIDEO)')

# How a model like weights/base.safetensors is made, stage by stage; each resumes if it is stopped.
# What was done for the shipped one, and where that differed: docs/training-log.md.
TRAIN := $(BIN)/vqcodec train --data $(DATA)/train --cache cache/footage
RECIPE := --batch 4 --warmup 60 --clip-grad 1 --optimizer muon --reconstruction log-mse \
  --perceptual none --short-clips 0.2
STILLS := --stills $(DATA)/stills --still-share 0.1
train: $(READY)
	$(TRAIN) $(RECIPE) --model paper --out runs/paper --minutes 97 --lr 1e-3 --commitment 0.25 \
	  --delay 150
	$(TRAIN) $(RECIPE) --init runs/paper/model.safetensors --out runs/base --minutes 75 --lr 1e-3 \
	  --commitment 0.25 --delay 100 --level-weights 6,13,40,30
	$(TRAIN) $(RECIPE) $(STILLS) --init runs/base/model.safetensors --out runs/longer --minutes 330 \
	  --lr 6e-4 --commitment 0.25 --delay 0 --level-weights 6,13,26,40
	$(TRAIN) --stage prior --init runs/longer/model.safetensors --out runs/priced --chunks 3000 \
	  --minutes 60
	$(TRAIN) $(RECIPE) $(STILLS) --init runs/priced/model.safetensors --out runs/joint --minutes 100 \
	  --lr 4e-4 --commitment 0.25 --delay 0 --trade 0.3 --reconstruction log-visible \
	  --level-weights 8,18,30,35
	$(TRAIN) $(RECIPE) $(STILLS) --init runs/joint/model.safetensors --out runs/decoder \
	  --minutes 31 --lr 4e-4 --commitment 0 --decoder-only --level-weights 8,18,28,35
	$(TRAIN) --stage prior --init runs/decoder/model.safetensors --out runs/prior --chunks 12000 \
	  --minutes 90
	$(TRAIN) --stage details --init runs/prior/model.safetensors --out runs/details
	$(TRAIN) --stage restoration --init runs/details/model.safetensors --out runs/restoration \
	  --chunks 2400 --minutes 90
	$(TRAIN) --stage details --init runs/restoration/model.safetensors --out runs/aimed
	$(TRAIN) --stage mending --init runs/aimed/model.safetensors --out runs/mending

# Rate, distortion and speed beside the peers; writes docs/results.md, docs/sizes.md, docs/seams.md
# and docs/operating.md. Results of single clips are cached for the first.
JOBS ?= $(shell nproc)
BENCH := $(BIN)/vqcodec bench --jobs $(JOBS)
PEERS := $(addprefix --codec ,x264-medium x264 x264-444 x265 x265-444 svtav1)
EFFORTS := $(addprefix --codec vqcodec@,0 1 2 3 5 7)
bench: $(READY)
	$(BENCH) --root $(DATA)/eval --limit 64 $(addprefix --codec vqcodec@,0 3) $(PEERS) \
	  --json cache/clips.json --report cache/report --plots docs/img
	$(BENCH) --root $(DATA)/eval --mode videos --codec vqcodec@0 $(PEERS) --json cache/videos.json
	$(BENCH) --root $(DATA)/ucf101 --dataset authors --codec vqcodec@0 --codec vqcodec@3 $(PEERS) \
	  --json cache/authors.json
	$(BENCH) --root $(DATA)/eval --limit 8 $(EFFORTS) --json cache/efforts.json
	$(BIN)/vqcodec bench --root $(DATA)/eval --limit 4 --fresh --codec vqcodec@0 $(PEERS) \
	  --json cache/speed.json
	$(BIN)/python -m vqcodec.bench.sizes --root $(DATA)/eval --limit 8 > cache/sizes.md
	mv cache/sizes.md docs/sizes.md
	$(BIN)/python -m vqcodec.bench.seams --root $(DATA)/eval > cache/seams.md
	mv cache/seams.md docs/seams.md
	$(BIN)/python -m vqcodec.bench.operating --root $(DATA)/eval --limit 64 > cache/operating.md
	mv cache/operating.md docs/operating.md
	$(BIN)/python -m vqcodec.bench.results cache/clips.json cache/videos.json \
	  cache/authors.json cache/efforts.json cache/speed.json \
	  docs/results.md

# Four models of the paper's tables on one small equal budget.
ablation: $(READY)
	$(BIN)/python -m vqcodec.bench.ablation --data $(DATA)/train --root $(DATA)/eval
	$(BIN)/python -m vqcodec.bench.results cache/ablation.json docs/ablation.md

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist examples/out .pytest_cache .mypy_cache .ruff_cache .hypothesis
