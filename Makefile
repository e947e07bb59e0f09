# make demo · make test · make breaks · make lint · make test-lmms. Another Python: make test PYTHON=python3.12 (its own .venv-python3.12).
PYTHON ?= python3
VENV ?= .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
PY := $(VENV)/bin/python
PYTEST := $(PY) -m pytest -p tests.plugin_skips
# The oldest transformers that is supported, with what it needs and the newest does not: a folder put before the rest.
OLDEST := 5.17.0
OLDEST_PACKAGES := transformers==$(OLDEST) huggingface_hub==1.33.0 httpx==0.28.1 httpcore==1.0.9 certifi

.PHONY: env demo test test-new test-oldest test-lmms breaks lint clips clean
.NOTPARALLEL:

env: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=python3.12"; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(VENV)/oldest/.installed: $(VENV)/.installed Makefile
	rm -rf $(VENV)/oldest
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --target $(VENV)/oldest $(OLDEST_PACKAGES)
	touch $@

demo: env
	$(VENV)/bin/weavetime demo

# The whole suite comes last, so that its closing line is the last line.
test: lint test-oldest test-new

test-new: env clips
	$(PYTEST)

test-oldest: clips $(VENV)/oldest/.installed
	PYTHONPATH=$(VENV)/oldest $(PY) -c 'import transformers as t; assert t.__version__ == "$(OLDEST)", t.__version__'
	PYTHONPATH=$(VENV)/oldest $(PYTEST) -m exact

# lmms-eval pins other versions: an environment of its own (2.4 GB, some minutes), which `make test` does without.
LMMS := $(abspath $(VENV))-lmms
LMMS_PACKAGES := lmms-eval==0.7.3

$(LMMS)/.installed: pyproject.toml constraints.txt Makefile
	test -x $(LMMS)/bin/python || $(PYTHON) -m venv $(LMMS)
	grep -v '^av==' constraints.txt > $(LMMS)/constraints.txt
	$(LMMS)/bin/python -m pip install --quiet --disable-pip-version-check -c $(LMMS)/constraints.txt $(LMMS_PACKAGES) -e '.[lmms]' pytest pytest-timeout
# A torchvision that was built for another torch breaks transformers, which does without.
	$(LMMS)/bin/python -c 'import torchvision' 2>/dev/null || $(LMMS)/bin/python -m pip uninstall --quiet --yes torchvision
	touch $@

test-lmms: $(LMMS)/.installed
	$(LMMS)/bin/python -m pytest -p no:cacheprovider tests/integrations/lmms/check_lmms.py

breaks: env clips
	$(PY) tests/breaks/run.py

lint: env
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

clips: env
	$(PY) -m tests.clips

# Leaves the environments and the fetched test clips (.venv*, .cache).
clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +
