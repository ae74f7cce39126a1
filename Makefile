# One command each, on a fresh machine too: they make a virtual environment in this checkout, install into it, then work.
PYTHON ?= python3
VENV ?= .venv

.PHONY: test demo results docs lint clean

test: $(VENV)/.installed lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2 --dist worksteal --untouched

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# drawn faces, trained on without and with re-weighting, LDS and LDS + FDS; the table is printed, the figures lie in demo/
demo: $(VENV)/.installed
	cd agedb-dir && ../$(VENV)/bin/python demo.py

# results/README.md and its pictures, from the csv files in results/
results: $(VENV)/.installed
	$(VENV)/bin/python -m imbalanced_regression results

# the API as HTML, from the docstrings; a warning is an error
docs: $(VENV)/.installed
	$(VENV)/bin/python docs-src/make_docs.py

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -e ".[train,dev]"
	touch $@

clean:
	rm -rf $(VENV) demo docs build *.egg-info
