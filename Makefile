# An experiment is a file in configs/, and a target of its name runs it.
EXPERIMENTS := $(basename $(notdir $(wildcard configs/*.yaml)))
VENV := .venv
IN_VENV := $(VENV)/bin/python
# The pinned pip is not to be replaced.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Python keeps what it compiled, or every process compiles all that it imports for 7 s.
unexport PYTHONDONTWRITEBYTECODE
READY := $(VENV)/ready
TOOLS := $(VENV)/tools

# $(call run,NAME,DIRECTORY,FLAGS): only what the user set is passed on, last.
run = $(IN_VENV) experiments/run.py --config configs/$(1).yaml --out $(2) $(3) \
	$(if $(SEEDS),--seeds $(SEEDS)) $(if $(JOBS),--jobs $(JOBS)) $(if $(SET),--set $(SET))

.PHONY: help setup warm_up test test_long coverage wheel lint types hooks docs info $(EXPERIMENTS) experiments \
	reproduce verdicts report bench bench_run bench_scale clean

help: ## show this help
	@awk -F ':.*## ' '/^[a-z_]+:.*## / { printf "make %-11s  %s\n", $$1, $$2 }' Makefile
	@echo
	@echo 'Experiments in full, such as make core:'
	@awk '/^ *question: / { name = FILENAME; gsub(/.*\/|\.yaml$$/, "", name); \
		sub(/^ *question: /, ""); printf "  %-20s %s\n", name, $$0 }' configs/*.yaml
	@echo
	@echo 'FLAGS="--dropout .3"     options of warm_up: --no-bn, --top-bn, --dropout RATE'
	@echo 'SEEDS=5 or SEEDS=1,2,3   seeds of the runs'
	@echo 'JOBS=4                   runs at a time'
	@echo 'OUT=DIRECTORY            where results go'
	@echo 'SET="KEY=VALUE ..."      settings that differ from the config'
	@echo 'BENCH="--threads 1 ..."  options of experiments/benchmarks/benchmark.py, or _scale.py'
	@echo 'PYTHON=/path/to/python   the Python (3.8 to 3.11) that a new .venv is made with'

setup: $(READY) ## install the pinned packages into .venv (other targets do it when needed)

warm_up: $(READY) ## start here: the post in one short file, trained in a minute
	@OMP_NUM_THREADS=1 $(IN_VENV) experiments/warm_up.py $(FLAGS)  # small matrices: one thread

test: $(READY) ## run the tests
	$(IN_VENV) -m pytest -n logical --dist worksteal

coverage: $(READY) ## run the tests (twice as long), and show how much of the package they cover
	$(IN_VENV) -m pytest --cov -n logical --dist worksteal

test_long: $(READY) ## run the tests that take minutes: kills, full disks, all optimisers
	$(IN_VENV) -m pytest -m long

wheel: $(READY) ## build a wheel, and try it in environments where nothing else is
	$(IN_VENV) -m pytest -m "long or not long" tests/test_install.py

lint: $(TOOLS) ## check style, format, and that imports go one way
	$(IN_VENV) -m ruff check .
	$(IN_VENV) -m ruff format --check .
	$(VENV)/bin/lint-imports

types: $(TOOLS) ## check the types in the package
	$(IN_VENV) -m mypy

hooks: $(TOOLS) ## check style and types before every commit from now on
	$(IN_VENV) -m pre_commit install

docs: $(TOOLS) ## render the documentation into docs/_build/html
	$(IN_VENV) -m sphinx -W --keep-going -q -b html docs docs/_build/html

info: $(READY) ## show versions, compiler and BLAS, and measure their speed
	@$(IN_VENV) -m ae_bn info

$(EXPERIMENTS): $(READY)
	$(call run,$@,$(or $(OUT),results))

experiments: $(EXPERIMENTS) ## run every experiment in full; this takes days on two cores

reproduce: $(READY) ## retrain some published runs, and compare every epoch with the published one
	$(IN_VENV) experiments/reproduce.py $(if $(JOBS),--jobs $(JOBS)) $(if $(OUT),--out $(OUT)) \
		$(if $(SET),--set $(SET))

verdicts: $(READY) ## measure by simulation how often the verdicts of the report are wrong
	$(IN_VENV) experiments/simulate_verdicts.py

report: $(READY) ## make tables, figures and docs/report again from the record
	$(IN_VENV) experiments/report.py

bench: $(READY) ## install PyTorch (Python 3.10, 3.11), and compare the training speed with it
	$(IN_VENV) -m pip install --quiet --no-compile --constraint constraints.txt --no-build-isolation \
		--editable '.[bench]'
	$(IN_VENV) experiments/benchmarks/benchmark.py $(BENCH)

bench_run: $(READY) ## time a run; BENCH="--against COMMIT" compares it with an older commit
	$(IN_VENV) experiments/benchmarks/benchmark_run.py $(BENCH)

bench_scale: $(READY) ## measure time and memory over vocabulary and documents (PyTorch as above)
	$(IN_VENV) -m pip install --quiet --no-compile --constraint constraints.txt --no-build-isolation \
		--editable '.[bench]'
	$(IN_VENV) experiments/benchmarks/benchmark_scale.py $(BENCH)

clean: ## remove .venv and build leftovers; results and caches stay
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .coverage \
		docs/_build docs/_generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The file $(READY) is made last, so an interrupted set-up starts again from the beginning.
$(READY): constraints.txt setup.py
	@sh make_venv.sh $(VENV)
	$(IN_VENV) -m pip install --quiet --constraint constraints.txt pip setuptools wheel
	$(IN_VENV) -m pip install --quiet --no-compile --constraint constraints.txt --no-build-isolation \
		--editable '.[test]'
	@touch $@

# The packages that only contributors need.
$(TOOLS): $(READY)
	$(IN_VENV) -m pip install --quiet --no-compile --constraint constraints.txt --no-build-isolation \
		--editable '.[dev,docs]'
	@touch $@
