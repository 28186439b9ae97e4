# What the README tells you to type. Choose a Python with `make lab PYTHON=python3.12`, a port with `make lab PORT=9000`.

PYTHON =
PORT = 8888
BIN = .venv/bin
# As in course_lib/__init__.py, for programs that import torch first.
export OMP_WAIT_POLICY ?= PASSIVE
# How the shipped weights were made. Any of it can be replaced: make train TRAIN='--minutes 10 --out runs/mine'
TRAIN = --full --minutes 25 --batch-size 64 --out runs/shipped
# A worse version of them, which guides them, was made with TRAIN='--full --minutes 3 --out runs/weak',
# and those that know classes with TRAIN='--full --classes --minutes 25 --batch-size 64 --out runs/classes'.

# One process for each core, four at most; one that runs dry takes over what waits for another.
PARALLEL = -n logical --maxprocesses 4 --dist worksteal

# One stage of the tests: its name, its command, and how long it took.
stage = @echo "== $(1)"; begin=$$(date +%s); $(2) && echo "== $(1): ok, $$(($$(date +%s) - begin)) s"

.DEFAULT_GOAL = help
.NOTPARALLEL:
.PHONY: help setup lab test check format notebooks run-notebooks browser handouts student solutions html train features bench figures

help: ## list these commands
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '  make %-14s %s\n' "$$name" "$$text"; done

setup: ## make .venv with the exact versions of constraints.txt
	@sh tools/setup.sh $(if $(PYTHON),"$(PYTHON)")

lab: setup ## open the course in JupyterLab
	@$(BIN)/python tools/open_lab.py --port $(PORT)

test: check handouts run-notebooks browser ## everything that CI runs: make check, the handouts, every notebook in full, every slider in a browser

check: setup ## format, lint, types, pairing of the notebooks, unit tests
	$(call stage,format,$(BIN)/ruff format --check .)
	$(call stage,lint,$(BIN)/ruff check .)
	$(call stage,types,$(BIN)/mypy)
	$(call stage,pairing,$(BIN)/python tools/notebooks.py check)
	$(call stage,unit tests,MPLBACKEND=agg $(BIN)/python -m pytest $(PARALLEL) -m 'not browser' --durations=15)

run-notebooks: setup ## execute copies of all notebooks in build/executed, then scan them for errors
	$(call stage,notebooks,$(BIN)/python tools/run_notebooks.py --jobs 2)

browser: setup ## every slider in a real browser: JupyterLab, then the pages of make html
	$(call stage,browser,$(BIN)/python -m pytest tests/tools -m browser --durations=25)
	@$(BIN)/python tools/browser.py

handouts: setup ## write both of the following
	$(call stage,handouts,$(BIN)/python tools/handouts.py student solutions)

student: setup ## write the notebooks to hand out, in build/student
	$(call stage,student,$(BIN)/python tools/handouts.py student)

solutions: setup ## write the same with every exercise done, in build/solutions
	$(call stage,solutions,$(BIN)/python tools/handouts.py solutions)

html: setup ## write the course as pages that need no network and no kernel, in build/html
	$(call stage,html,$(BIN)/python tools/html_site.py)

format: setup ## put code into the standard form and mend what ruff can mend
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

notebooks: setup ## write notebooks/*.ipynb from notebooks/py/*.py
	@$(BIN)/ruff format notebooks/py && $(BIN)/python tools/notebooks.py sync

train: setup ## train weights such as those that the course ships, into runs/shipped
	@$(BIN)/python -m course_lib train $(TRAIN)

features: setup ## train the classifier behind course_lib.metrics
	@$(BIN)/python tools/train_features.py

# PASSIVE would slow the other libraries, beside which the course is measured.
bench: setup ## run the benchmarks; hours, but what was stopped goes on
	@for each in pictures_per_minute ablations speed sampling slider_latency; do \
		env -u OMP_WAIT_POLICY $(BIN)/python benchmarks/$$each.py && $(BIN)/python benchmarks/$$each.py --report || exit; \
	done

figures: setup ## draw every picture of the README and the notebooks again
	@$(BIN)/python figures/make_figures.py
