# VENV=/path/to/one/environment makes several clones share it.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
RUN := runs/quickstart

.PHONY: setup quickstart test lint

# Made anew only when the requirements change.
READY := $(VENV)/.ready-$(shell cat requirements.txt requirements-dev.txt | cksum | cut -d ' ' -f 1)

$(READY):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	rm -f $(VENV)/.ready-*
	touch $@

setup: $(READY)

# A kept training run goes on where it was; `rm -r runs/quickstart` starts anew.
quickstart: setup
	$(BIN)/python data/synthetic.py --output $(RUN)/data/train --count 1000 --seed 1
	$(BIN)/python data/synthetic.py --output $(RUN)/data/val --count 100 --seed 2
	for part in train val; do $(BIN)/python data/coco_masks_hdf5.py --annotations $(RUN)/data/$$part/annotations.json \
		--images $(RUN)/data/$$part/images --output $(RUN)/data/$$part.h5 || exit; done
	$(BIN)/python train.py --config config/quickstart.yaml --output $(RUN) --resume auto
	$(BIN)/python evaluate.py --config config/quickstart.yaml --checkpoint $(RUN)/best.pth \
		--annotations $(RUN)/data/val/annotations.json --images $(RUN)/data/val/images --output $(RUN) --picture $(RUN)/people.png

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
