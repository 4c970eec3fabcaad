# `make demo` and `make test` build .venv the first time; after that they only run.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUTPUT ?= output

.PHONY: demo web test lint clean

demo: $(VENV)/.stamp-run
	$(BIN)/python run_demo.py --video examples/cup.mp4 \
		--click 375,300 --click 540,200,0,2 \
		--output_dir $(DEMO_OUTPUT)
	@echo "Look at $(DEMO_OUTPUT)/result.mp4, or at $(DEMO_OUTPUT)/result_vis.mp4 for before and after."

# The page in the browser. WEB takes more: make web WEB="my.mp4 --port 9000"
web: $(VENV)/.stamp-web
	$(BIN)/videopainter web --open $(WEB)

# Two processes: nearly everything in the tests runs in one thread. A file's tests share what is costly to make.
test: $(VENV)/.stamp-test lint
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/.stamp-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) output

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# --no-deps: what it depends on is pinned in requirements.txt.
$(VENV)/.stamp-run: requirements.txt pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -e .
	@touch $@

$(VENV)/.stamp-web: requirements-web.txt $(VENV)/.stamp-run
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-web.txt
	@touch $@

$(VENV)/.stamp-test: requirements-test.txt requirements-diffusion.txt requirements-dstt.txt \
		requirements-metrics.txt requirements-ray.txt requirements-captions.txt requirements-faces.txt requirements-web.txt $(VENV)/.stamp-run
	$(BIN)/python -m pip install -q --disable-pip-version-check -r requirements-test.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps \
		-r requirements-captions.txt -r requirements-faces.txt
	@touch $@
