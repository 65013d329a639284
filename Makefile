# make run    install, then train and evaluate on the ORL faces   (ARGS="--num_bits 12" and so on)
# make test   install, then run the tests                         (ARGS="-k golden" and so on)
# make lint   install, then run the linter
# make clean  remove the environments; runs/ and data/ stay
# make environments   which of TF=1 and TF=2 this machine has a Python for
#
# TF=1 is TensorFlow 1.14 under Python 3.7, in .venv. TF=2 is TensorFlow 2 under Python 3.10 to
# 3.12, in .venv-tf2. Without TF, 1 is taken where a Python 3.7 is found, else 2.

VENV_1 := .venv
PYTHONS_1 := 3.7
REQUIREMENTS_1 := requirements.txt
VENV_2 := .venv-tf2
PYTHONS_2 := 3.12 3.11 3.10
REQUIREMENTS_2 := requirements-tf2.txt

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
NEWEST := $(firstword $(PYTHONS_$(TF)))
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check install

.PHONY: run test lint clean environments

run: $(VENV)/installed
	$(PYTHON) main.py $(ARGS)

test: $(VENV)/installed-dev
	$(PYTHON) -m pytest $(ARGS)

lint: $(VENV)/installed-dev
	$(PYTHON) -m ruff check .

clean:
	rm -rf $(VENV_1) $(VENV_2)

environments:
	@echo $(foreach number,1 2,$(if $(call find_python,$(number)),$(number)))

# The stamps are written last: an environment without one is half-made, and is made anew.
$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/installed: $(REQUIREMENTS) $(PYTHON)
	@python="$(call find_python,$(TF))"; \
	if [ -z "$$python" ]; then \
	  echo "No Python was found for TF=$(TF). TF=1 needs Python 3.7, TF=2 Python 3.10 to 3.12." >&2; \
	  echo "Get one with pyenv (pyenv install $(NEWEST)) or conda" \
	    "(conda create -n py$(NEWEST) python=$(NEWEST); conda activate py$(NEWEST))." >&2; \
	  exit 1; fi; \
	echo "$(CHOICE)creating $(VENV) for TensorFlow $(TF) with $$("$$python" --version) ($$python)"; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV)
	$(PIP) pip==24.0 setuptools==68.0.0 wheel==0.42.0
	$(PIP) -r $(REQUIREMENTS)
	@touch $@

# No file: the Python that an environment was made from is gone, and the environment with it.
$(PYTHON): ;
