# make run    install, then train and evaluate on the ORL faces   (ARGS="--num_bits 12" and so on)
# make test   install, then run the tests                         (ARGS="-k golden" and so on)
# make lint   the linter
# make clean  remove the environment; runs/ and data/ stay

VENV := .venv
PYTHON := $(VENV)/bin/python
PIP := $(PYTHON) -m pip --disable-pip-version-check install

.PHONY: run test lint clean

run: $(VENV)/installed
	$(PYTHON) main.py $(ARGS)

test: $(VENV)/installed-dev
	$(PYTHON) -m pytest $(ARGS)

lint: $(VENV)/installed-dev
	$(PYTHON) -m ruff check .

clean:
	rm -rf $(VENV)

# The stamps are written last, so that an interrupted installation is taken up again.
$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(PIP) -r requirements-dev.txt
	@touch $@

$(VENV)/installed: requirements.txt $(PYTHON)
	$(PIP) pip==24.0 setuptools==68.0.0 wheel==0.42.0
	$(PIP) -r requirements.txt
	@touch $@

# Python 3.7: the one on PATH if it starts (pyenv's stand-in may not), else the newest of pyenv's.
# Made aside and renamed: a half-made environment never counts.
$(PYTHON):
	@python=; \
	for candidate in python3.7 \
	    $$(ls -d "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/3.7.*/bin/python 2>/dev/null | sort -Vr); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 7))' 2>/dev/null; then \
	    python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.7 was not found: TensorFlow 1.14 needs it, and newer versions will not do." >&2; \
	  echo "Get it with pyenv (pyenv install 3.7.17) or conda (conda create -n py37 python=3.7; conda activate py37)." >&2; \
	  exit 1; fi; \
	echo "creating $(VENV) with $$("$$python" --version) ($$python)"; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
