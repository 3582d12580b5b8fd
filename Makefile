# VENV=/path/to/one/environment makes several clones share it.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# make quickstart CONFIG=config/dekr_quickstart.yaml trains another system on the same images. A top-down system needs person boxes for its
# demo: DETECTOR=runs/quickstart/best.pth predicts them with another checkpoint.
CONFIG ?= config/quickstart.yaml
DETECTOR ?=
RUN := runs/$(basename $(notdir $(CONFIG)))
SYNTHETIC := runs/quickstart/data
# Folder or pattern of images for the bundled network's demo before training.
PHOTOS ?= $(if $(wildcard ../shared/data/media),../shared/data/media/*.jpg)

.PHONY: setup quickstart quickstart-photos quickstart-train benchmarks gpu docs test lint

# Rebuilt only when the requirements change. Python compiles the modules that it imports; compiling all of them takes a minute.
READY := $(VENV)/.ready-$(shell cat requirements.txt requirements-dev.txt | cksum | cut -d ' ' -f 1)

$(READY):
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile -r requirements-dev.txt
	rm -f $(VENV)/.ready-*
	touch $@

setup: $(READY)

quickstart: quickstart-photos
	@$(MAKE) --no-print-directory quickstart-train

quickstart-photos: setup
ifeq ($(PHOTOS),)
	@echo "no images for the bundled network's demo; add PHOTOS=folder to see its poses on yours"
else
	$(BIN)/python demo_image.py --input "$(PHOTOS)" --output runs/quickstart/photos --sheet runs/quickstart/photos.png
endif

# Resumes an interrupted run; `rm -r runs/quickstart` restarts it.
quickstart-train: setup $(SYNTHETIC)/train.h5 $(SYNTHETIC)/val.h5
	$(BIN)/python train.py --config $(CONFIG) --output $(RUN) --resume auto
	$(BIN)/python evaluate.py --config $(CONFIG) --checkpoint $(RUN)/best.pth --output $(RUN) \
		--annotations $(SYNTHETIC)/val/annotations.json --images $(SYNTHETIC)/val/images
	$(BIN)/python demo_image.py --config $(CONFIG) --checkpoint $(RUN)/best.pth --output $(RUN)/images \
		--input $(SYNTHETIC)/val/images --limit 12 --sheet $(RUN)/people.png $(if $(DETECTOR),--detector $(DETECTOR))

$(SYNTHETIC)/train/annotations.json: | setup
	$(BIN)/python data/synthetic.py --output $(@D) --count 1500 --seed 1

$(SYNTHETIC)/val/annotations.json: | setup
	$(BIN)/python data/synthetic.py --output $(@D) --count 100 --seed 2

# Rebuilt when the file format changes.
$(SYNTHETIC)/%.h5: $(SYNTHETIC)/%/annotations.json data/hdf5.py
	$(BIN)/python data/coco_masks_hdf5.py --annotations $< --images $(<D)/images --output $@

# Other programs should not run meanwhile.
benchmarks: setup
	for script in assignment inference data; do $(BIN)/python benchmarks/$$script.py --save || exit 1; done
	for recipe in quickstart dekr_quickstart simple_baselines_quickstart; do \
		$(BIN)/python benchmarks/training.py --config config/$$recipe.yaml --save || exit 1; done
	$(BIN)/python benchmarks/report.py > docs/benchmarks.md

# Takes up to nine minutes on an NVIDIA GPU: tests, then figures.
gpu: setup
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python benchmarks/gpu.py --save
	$(BIN)/python benchmarks/report.py > docs/benchmarks.md

# Warnings and broken internal links are errors. The site is build/docs/index.html.
docs: setup
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs

# Files in alphabetical order: those with the fewest tests, which take longest, would come last otherwise.
test: setup
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
