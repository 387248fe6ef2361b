# Everything a newcomer needs: install, demo, test, lint, bench, soak.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 2
export TOKENIZERS_PARALLELISM := false

.PHONY: install demo test lint bench soak upgrade system-packages clean-demo

install: $(STAMP)

$(STAMP): requirements.txt requirements-optional.txt requirements-dev.txt constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -r requirements.txt -r requirements-optional.txt -r requirements-dev.txt \
		-c constraints.txt
	touch $@

demo: $(STAMP)
	$(BIN)/python scripts/demo.py

# A JDK, JUnit and Slurm: what the tests of execution and of the job scripts need besides Python.
system-packages:
	bash scripts/install_test_packages.sh

test: $(STAMP) system-packages
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" -q

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy knowledge_distillation.py train_codet5_assertions.py config data models evaluation utils

# make bench BENCH_FLAGS=--toy shows in a minute that they run. What asks for a trained model or a plan of its own
# (ablation, bridge, loss_components, ...) is not among them; its document names its command.
SPEED := loss_step training_step startup scaling generation data_generation
OTHERS := data_loading evaluation_speed execution logging_overhead teacher_encodings

bench: $(STAMP)
	for name in $(SPEED); do $(BIN)/python benchmarks/$$name.py $(BENCH_FLAGS) || exit 1; done
	for part in trainer profile; do $(BIN)/python benchmarks/training_step.py --part $$part $(BENCH_FLAGS) || exit 1; done
	if nvidia-smi -L >/dev/null 2>&1; then $(BIN)/python benchmarks/gpu_step.py --budget 900 $(BENCH_FLAGS); \
	else $(BIN)/python benchmarks/gpu_step.py --toy; fi
	test -n "$(BENCH_FLAGS)" || for name in $(OTHERS); do $(BIN)/python benchmarks/$$name.py || exit 1; done

soak: $(STAMP) system-packages
	$(BIN)/python -m pytest -q

# The newest versions of everything, and the tests with them: once a week, in a branch of its own.
upgrade: $(STAMP)
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/python scripts/renew_pins.py
	$(MAKE) lint test
