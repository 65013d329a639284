# One command installs what it needs and does its work; `make` alone lists them.
#
# TF=1 is TensorFlow 1.14 under Python 3.7, in .venv. TF=2 is TensorFlow 2 under Python 3.10 to
# 3.13, in .venv-tf2. Without TF, 1 is taken where a Python 3.7 is found, else 2.

.DEFAULT_GOAL := help

VENV_1 := .venv
PYTHONS_1 := 3.7
REQUIREMENTS_1 := requirements.txt
SIZE_1 := 1.8 GB
VENV_2 := .venv-tf2
PYTHONS_2 := 3.13 3.12 3.11 3.10
REQUIREMENTS_2 := requirements-tf2.txt
SIZE_2 := 2.7 GB
VENV_MILVUS := .venv-milvus

# $(call find_python,1): a Python for TF=1, or nothing. The one the environment was made from, if
# that is whole; else the first on PATH that starts (pyenv's stand-in may not) and can make
# environments (Debian's may not); else the newest of pyenv's.
find_python = $(shell \
  pyenv="$${PYENV_ROOT:-$$HOME/.pyenv}/versions"; \
  for candidate in $(patsubst %/installed,%/bin/python,$(wildcard $(VENV_$(1))/installed)) \
      $(addprefix python,$(PYTHONS_$(1))) python3 python \
      $$(ls -d $(PYTHONS_$(1):%="$$pyenv"/%.*/bin/python) 2>/dev/null | sort -Vr); do \
    "$$candidate" -c 'import ensurepip, os, sys; \
      "%d.%d" % sys.version_info[:2] in "$(PYTHONS_$(1))".split() or sys.exit(1); \
      print(os.path.realpath(sys.executable))' 2>/dev/null && break; done)

ifndef TF
TF := $(if $(call find_python,1),1,2)
CHOICE := $(if $(filter 2,$(TF)),no Python 3.7 was found; )
endif
ifneq ($(TF),1)
ifneq ($(TF),2)
$(error TF=$(TF) is not known: TF=1 is TensorFlow 1.14, TF=2 is TensorFlow 2)
endif
endif
VENV := $(VENV_$(TF))
REQUIREMENTS := $(REQUIREMENTS_$(TF))
# Said where only a Python is found that TensorFlow 2.21 has no package for.
NEWER = $(shell for candidate in python3 python python3.14 python3.15; do \
    "$$candidate" -c 'import sys; sys.version_info >= (3, 14) or sys.exit(1); \
      print("; Python %d.%d is too new for it" % sys.version_info[:2])' 2>/dev/null && break; done)
NEWEST := $(firstword $(PYTHONS_$(TF)))
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check install

.PHONY: help run prepare describe evaluate reproduce search test test-method test-milvus test-embedding lint clean environments

define HELP
make run        train and evaluate on the ORL faces     ARGS="--num_bits 12" and so on
make prepare    photographs to a data set               ARGS="--source folder --images DIR --name N"
make describe   counts, duplicates, contact sheet       ARGS="NAME"
make evaluate   evaluate, compare or export runs        ARGS="runs/orl_48bits_seed0"
make reproduce  the grid of methods                     ARGS="--datasets orl --epochs 10"
make search     find faces in photographs               ARGS="find photo.jpg DIR"
make test       run the tests                           ARGS="-k golden" and so on
make test-method  run those of the method alone: losses, layers, golden numbers, metrics
make test-milvus  test search on a Milvus server, which it installs (80 MB)
make test-embedding  compare the face embedding with dlib, which it installs
make lint       run the linter
make clean      remove the environments; runs/ and data/ stay
Each installs what it needs first. TF=1 or TF=2 chooses TensorFlow 1.14 or 2.21.
make environments prints which of the two this machine has a Python for.
endef
export HELP

help:
	@echo "$$HELP"

run: $(VENV)/installed
	$(PYTHON) main.py $(ARGS)

prepare describe evaluate reproduce search: $(VENV)/installed
	$(PYTHON) $@.py $(ARGS)

# Modules are compiled once, not in each of the many processes that tests start.
test test-method: export PYTHONDONTWRITEBYTECODE :=

test: $(VENV)/installed-dev
	$(PYTHON) -m pytest -n auto --dist loadfile $(ARGS)

# The first thing to run after a change of the network, its losses or the metrics.
test-method: $(VENV)/installed-dev
	$(PYTHON) -m pytest -n auto --dist loadfile tests/test_golden.py tests/test_losses.py \
	  tests/test_published_losses.py tests/test_model.py tests/evaluation/test_metrics.py $(ARGS)

# Adds the Milvus client, makes an environment with a server, and tests search on it.
test-milvus: $(VENV)/installed-dev $(VENV_MILVUS)/installed
	$(PIP) -r requirements-milvus.txt
	$(PYTHON) -m pytest tests/gallery/test_milvus.py $(ARGS)

# The server runs under any Python 3 and needs no other package.
$(VENV_MILVUS)/installed: | $(VENV)/installed
	rm -rf $(VENV_MILVUS)
	$(PYTHON) -m venv $(VENV_MILVUS)
	$(VENV_MILVUS)/bin/python -m pip --disable-pip-version-check install milvus==2.3.5
	@touch $@

# Adds dlib and compares the embedding of faces with it.
test-embedding: $(VENV)/installed-dev
	$(PIP) -r requirements-dlib.txt
	$(PYTHON) -m pytest tests/faces/test_embedding.py $(ARGS)

lint: $(VENV)/installed-dev
	$(PYTHON) -m ruff check .

clean:
	rm -rf $(VENV_1) $(VENV_2) $(VENV_MILVUS)

environments:
	@echo $(foreach number,1 2,$(if $(call find_python,$(number)),$(number)))

# The stamps are written last: an environment without one is half-made, and is made again.
$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/installed: $(REQUIREMENTS) $(PYTHON)
	@python="$(call find_python,$(TF))"; \
	if [ -z "$$python" ]; then \
	  echo "No Python was found for TF=$(TF). TF=1 needs Python 3.7, TF=2 Python 3.10 to 3.13$(NEWER)." >&2; \
	  echo "Get one with pyenv (pyenv install $(NEWEST)) or conda" \
	    "(conda create -n py$(NEWEST) python=$(NEWEST); conda activate py$(NEWEST))." >&2; \
	  exit 1; fi; \
	echo "$(CHOICE)creating $(VENV) for TensorFlow $(TF) with $$("$$python" --version) ($$python);" \
	    "$(SIZE_$(TF)) of packages with TensorFlow and the networks that find and compare faces"; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV)
	$(PIP) pip==24.0 setuptools==68.0.0 wheel==0.42.0
	$(PIP) -r $(REQUIREMENTS)
	@touch $@

# No file: the Python that an environment was made from is gone, and the environment with it.
$(PYTHON): ;
