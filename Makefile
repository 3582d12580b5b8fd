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

# A run that was interrupted goes on where it was; `rm -r runs/quickstart` starts anew.
quickstart: setup $(RUN)/data/train.h5 $(RUN)/data/val.h5
	$(BIN)/python train.py --config config/quickstart.yaml --output $(RUN) --resume auto
	$(BIN)/python evaluate.py --config config/quickstart.yaml --checkpoint $(RUN)/best.pth --output $(RUN) \
		--annotations $(RUN)/data/val/annotations.json --images $(RUN)/data/val/images
	$(BIN)/python demo_image.py --config config/quickstart.yaml --checkpoint $(RUN)/best.pth --output $(RUN)/pictures \
		--input $(RUN)/data/val/images --limit 12 --sheet $(RUN)/people.png

$(RUN)/data/train/annotations.json: | setup
	$(BIN)/python data/synthetic.py --output $(@D) --count 1700 --seed 1

$(RUN)/data/val/annotations.json: | setup
	$(BIN)/python data/synthetic.py --output $(@D) --count 100 --seed 2

# Built anew when the format of the file changes.
$(RUN)/data/%.h5: $(RUN)/data/%/annotations.json data/people_file.py
	$(BIN)/python data/coco_masks_hdf5.py --annotations $< --images $(<D)/images --output $@

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
