# Everything the course needs, from a fresh clone. `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
NOTEBOOKS := $(shell find chapters -name '*.ipynb' -not -path '*/.ipynb_checkpoints/*')
# Or a private copy of that folder, with tests that are not public.
COURSE := assignments
# One thread a process: two OpenMP threads on two cores spin against each other, ten times slower.
export OMP_NUM_THREADS = 1
export PYTHONHASHSEED = 0

.PHONY: book test notebooks bench lab serve check release collect grade formgrader feedback grades.csv lock clean help
.DEFAULT_GOAL := help

book: .venv/installed  ## build the site from clean, warnings as errors
	@rm -rf _build
	@$(BIN)/jupyter-book build . -W -n --keep-going --quiet >/dev/null
	@echo "The site is built: $(CURDIR)/_build/html/index.html"

test: book  ## build the site, then run every test and every notebook
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/pytest -n 2 --dist loadfile --nbval tests chapters

notebooks: export TQDM_DISABLE = 1  # no progress bar is stored, even if a notebook's shell calls this
notebooks: .venv/installed  ## re-execute every notebook in place (or one: NOTEBOOKS=its path)
	@$(BIN)/python tests/notebook_form.py $(NOTEBOOKS)

bench: .venv/installed  ## measure the training loops side by side
	@$(BIN)/python -m nonlinearity.bench

lab: .venv/installed  ## open the notebooks in JupyterLab
	@$(BIN)/jupyter lab chapters

serve: .venv/installed  ## build what changed and serve the site on http://localhost:8000
	@$(BIN)/jupyter-book build . --quiet
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory _build/html 8000

check: .venv/installed  ## run an assignment's visible tests before handing it in: NOTEBOOK=its path
	@$(BIN)/python -m nonlinearity.check "$(patsubst ~/%,$(HOME)/%,$(NOTEBOOK))"  # zsh leaves ~ as it is

release: .venv/installed  ## make the students' notebooks from assignments/source (or one: ASSIGNMENT=its name)
	@$(BIN)/python $(COURSE)/grading.py release $(ASSIGNMENT)

collect: .venv/installed  ## sort what a platform gives out: ASSIGNMENT=, FILES=, DEADLINE=2026-02-01T23:59, PATTERN=
	@$(BIN)/python $(COURSE)/grading.py collect $(ASSIGNMENT) $(FILES) $(if $(DEADLINE),--deadline $(DEADLINE)) $(if $(PATTERN),--pattern '$(PATTERN)')

grade: .venv/installed  ## grade what was collected, each notebook in a sandbox: ASSIGNMENT= (or one: STUDENT=)
	@$(BIN)/python $(COURSE)/grading.py grade $(ASSIGNMENT) $(if $(STUDENT),--student '$(STUDENT)')

formgrader: .venv/installed  ## mark by hand what tests cannot judge, in the browser
	@cd $(COURSE) && $(CURDIR)/$(BIN)/jupyter server --ServerApp.default_url=/formgrader --ServerApp.open_browser=True

feedback: .venv/installed  ## write what students get back: ASSIGNMENT=
	@$(BIN)/python $(COURSE)/grading.py feedback $(ASSIGNMENT)

grades.csv: .venv/installed  ## write all marks to assignments/grades.csv
	@$(BIN)/python $(COURSE)/grading.py grades

lock:  ## write requirements.txt anew from pyproject.toml, in an environment made for it
	@rm -rf _build/lock && $(PYTHON) -m venv _build/lock
	@_build/lock/bin/pip install --quiet ".[frameworks,cluster,assignments,book,test,lab]"
	@{ echo "# Made by 'make lock' from pyproject.toml: the whole environment."; \
	   _build/lock/bin/pip freeze --exclude nonlinearity --all --exclude pip | sed 's/+cpu$$//'; } > requirements.txt

clean:  ## remove the environment and everything built
	rm -rf .venv _build .pytest_cache .hypothesis .ruff_cache *.egg-info code/*.egg-info

help:
	@sed -n 's/^\([a-z.]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

.venv/installed: requirements.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) here. Install Python 3.11 or newer, or name it: make book PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("The course needs Python 3.11 or newer; $(PYTHON) is %s. Name another: make book PYTHON=python3.12" % sys.version.split()[0])'
	@$(PYTHON) -c 'import shutil, sys; free = shutil.disk_usage(".").free / 1e9; free > 4 or sys.exit(f"The environment takes 4 GB of disk; {free:.1f} GB are free.")'
	@$(PYTHON) -m venv .venv || { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv"; exit 1; }
	@echo "Installing the locked environment into .venv (minutes, once) ..."
	@$(BIN)/pip install -qq --disable-pip-version-check --retries 2 -r requirements.txt && \
	  $(BIN)/pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable . || \
	  { echo "The environment could not be installed; pip's message above says why. Without network nothing can be fetched: run make again once it is back, it goes on from here."; exit 1; }
	@touch $@
