# Every target sets up its own environment: in $(VENV), from pyproject.toml and constraints.txt, made again only when one
# of these changes. To choose:  make tutorial PYTHON=python3.12 VENV=/data/venvs/lkm PIP_ARGS="--find-links wheels"
#                               LKM_PROFILE=smoke make tutorial      (smoke | laptop | gpu | paper)
PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?=
TEST_WORKERS ?= logical
# what starts another program (a browser, nnU-Net, Slurm, nbgrader) or asks one idea of every combination runs in CI: see .ci/run
MARKS ?= not gpu and not paper and not browser and not nnunet and not slurm and not course and not mutation and not thorough
LAB_ARGS ?=
GPU_CHECK_ARGS ?=
CHAPTERS ?=
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
TUTORIAL := build/tutorial

.DEFAULT_GOAL := help
.PHONY: help tutorial test gpu-check lab student notebooks figures assignment site lint clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## */  make \1\t/' | expand -t 20

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo "lkm-kit needs Python 3.10 or newer; this is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "== setting up $(VENV) (once; about 2 GB on the disk)"
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear "$(VENV)" || \
	    { echo "$(PYTHON) cannot make environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf "$(VENV)"; exit 1; }
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[notebooks]'
	@touch $@

$(DEV): $(STAMP)
	@echo "== adding what tests and checks need to $(VENV) (once; about 1 GB more)"
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	# a peer of the tests; alone, as it asks for torchvision, of which it uses nothing here
	$(BIN)/python -m pip install $(PIP_ARGS) -c constraints.txt --no-deps openerf
	# nnU-Net asks for torchvision through timm and uses it for nothing here; beside a CPU torch it breaks who imports it
	$(BIN)/python -c 'import torchvision' 2>/dev/null || $(BIN)/python -m pip uninstall --quiet -y torchvision
	@touch $@

tutorial: $(STAMP)  ## the whole tour: data, every chapter executed, a small LKM-UNet trained, figures and tables written
	@echo "== 1/4 this machine"
	@$(BIN)/lkm doctor
	@echo "== 2/4 sample data"
	@$(BIN)/lkm data sample
	@echo "== 3/4 chapters, executed in $(TUTORIAL): about six minutes on two cores (the committed notebooks stay as they are)"
	@LKM_RUNS="$(CURDIR)/runs" $(BIN)/lkm course build --out $(TUTORIAL) $(CHAPTERS)
	@echo "== 4/4 figures and tables: about a minute"
	@LKM_RUNS="$(CURDIR)/runs" LKM_FIGURES="$(CURDIR)/$(TUTORIAL)/figures" $(BIN)/lkm figures --jobs 2
	@LKM_RUNS="$(CURDIR)/runs" $(BIN)/lkm course summary $(TUTORIAL)

test: $(DEV)  ## the tests but the longest; all that CI runs: MARKS="not gpu and not paper"
	$(BIN)/python -m pytest -m "$(MARKS)" \
	    -n $(TEST_WORKERS) --maxprocesses 4 --dist worksteal $(PYTEST_ARGS)

gpu-check: $(DEV)  ## on a CUDA machine: GPU tests, parity, benchmarks and 50 steps of paper-2d in ten minutes, in gpu-check.json
	$(BIN)/lkm bench gpu-check $(GPU_CHECK_ARGS)

lab: $(STAMP)  ## open JupyterLab on the chapters
	$(BIN)/jupyter lab $(LAB_ARGS) notebooks/00_start_here.ipynb

student: $(STAMP)  ## your own copies of the chapters in work/, without solutions, opened in JupyterLab; answers are kept
	@$(BIN)/lkm course student
	$(BIN)/jupyter lab $(LAB_ARGS) --ServerApp.root_dir="$(CURDIR)" work/00_start_here.ipynb

notebooks: $(DEV)  ## rebuild the committed notebooks from notebooks/src (CHAPTERS="06 08" for some), executed at laptop
	LKM_PROFILE=$${LKM_PROFILE:-laptop} LKM_RUNS="$(CURDIR)/runs" \
	    $(BIN)/lkm course build --execute $(CHAPTERS)

figures: $(DEV)  ## rebuild the committed figures with their captions
	LKM_PROFILE=$${LKM_PROFILE:-laptop} LKM_RUNS="$(CURDIR)/runs" $(BIN)/lkm figures

assignment: $(DEV)  ## nbgrader's source and release versions of the chapters (CHAPTERS="03 04" for some) in build/course
	$(BIN)/lkm course assignment $(CHAPTERS)

site: $(DEV)  ## chapters, handouts to print, docs and public names as web pages with a search, offline, in build/site
	$(BIN)/lkm course site

lint: $(DEV)  ## check style and types, and that the notebooks are in step with their sources
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --pythonpath $(BIN)/python
	$(BIN)/lkm course build --check

clean:  ## remove the environment and everything built (runs and downloaded data stay)
	rm -rf "$(VENV)" build .pytest_cache .ruff_cache .hypothesis
