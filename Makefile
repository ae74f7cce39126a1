# One command each, on a fresh machine too: they make a virtual environment in this checkout, install into it, then work.
PYTHON ?= python3
VENV ?= .venv
SAMPLE = sts-b-dir/sample/STS-B
DEMO = ../$(VENV)/bin/python train.py --data_dir sample/STS-B --store_root ../demo --overwrite --glove 0 \
	--d_word 50 --d_hid 32 --lr 3e-3 --val_interval 48 --max_vals 12 --print_freq 48

.PHONY: test demo lint clean

test: $(VENV)/.installed lint
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -n 2

lint: $(VENV)/.installed
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

# vanilla, then LDS + FDS, on the STS-B sample; the figures are demo/*/report.png
demo: $(VENV)/.installed
	cd sts-b-dir && ../$(VENV)/bin/python make_sample.py --overwrite
	cd sts-b-dir && $(DEMO)
	cd sts-b-dir && $(DEMO) --reweight inverse --lds --fds
	@echo "The runs are in demo/: see report.png in each."

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --upgrade pip
	$(VENV)/bin/python -m pip install --quiet -e ".[train,dev]"
	touch $@

clean:
	rm -rf $(VENV) demo build *.egg-info
