# Everything happens in .venv; a fresh machine needs git, make, Python 3.11 (or newer) and pip.
PYTHON ?= python3
BIN := .venv/bin
# Two threads unless the caller says otherwise: what the figures in the documentation were measured with.
export OMP_NUM_THREADS ?= 2

.PHONY: demo test check bench evidence browser-test engine-test integration-test ray-test wheel-test client-test docs docs-site serve clean

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: .venv/installed
	$(BIN)/python -m demo

# One thread each: processes with more threads than there are cores wait for each other.
JOBS ?= 2
test: .venv/installed
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal

# Needs chromium: apt-get install chromium
browser-test: .venv/installed
	$(BIN)/python -m benchmarks.report_in_browser
	$(BIN)/python -m benchmarks.page_in_browser

# Sets llama.cpp's server up in .engines and compares it with transformers; ENGINE=vllm fetches 3.5 GB.
ENGINE ?= llama.cpp
engine-test: .venv/installed
	$(BIN)/python -m benchmarks.engines.agreement $(ENGINE) --folder .engines

# inspect_ai and lm-evaluation-harness want other versions of two packages: an environment of their own, with the same
# torch.
INTEGRATIONS := .venv-integrations
$(INTEGRATIONS)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(INTEGRATIONS)
	$(INTEGRATIONS)/bin/python -m pip install --quiet --upgrade pip
	grep -vE '^(fsspec|python-dateutil)==' constraints.txt > $(INTEGRATIONS)/constraints.txt
	$(INTEGRATIONS)/bin/python -m pip install --quiet --constraint $(INTEGRATIONS)/constraints.txt \
		--editable '.[local,remote,inspect-ai,lm-eval,mcp]' pytest
	touch $@

# LangChain's own tests of chat models, whose plugins for pytest would change the rest of the suite; light, without torch.
LANGCHAIN := .venv-langchain
$(LANGCHAIN)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(LANGCHAIN)
	$(LANGCHAIN)/bin/python -m pip install --quiet --upgrade pip
	$(LANGCHAIN)/bin/python -m pip install --quiet --constraint constraints.txt \
		--editable '.[langchain,remote]' langchain-tests pytest
	touch $@

# Ray, which is as large as all of the rest without torch: the same versions, in an environment of its own. The service's
# tests run once more behind Ray's proxy, but for those that look inside of the process or are about our HTTP server.
RAY := .venv-ray
$(RAY)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(RAY)
	$(RAY)/bin/python -m pip install --quiet --upgrade pip
	$(RAY)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[ray,dev]' psutil
	touch $@

ray-test: $(RAY)/installed
	RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1 $(RAY)/bin/python -m pytest tests/engines tests/service/test_replicas.py
	TEST_SERVICE_IN=ray RAY_USAGE_STATS_ENABLED=0 OMP_NUM_THREADS=1 $(RAY)/bin/python -m pytest -W ignore tests/service

integration-test: $(INTEGRATIONS)/installed $(LANGCHAIN)/installed
	$(LANGCHAIN)/bin/python -m pytest --noconftest -o asyncio_mode=auto \
		-o asyncio_default_fixture_loop_scope=function -k 'not stream_time' \
		tests/integrations/test_langchain_standard.py
	OMP_NUM_THREADS=1 $(INTEGRATIONS)/bin/python -m pytest tests/integrations/test_inspect_ai.py \
		tests/integrations/test_lm_eval.py tests/integrations/test_mcp.py tests/integrations/test_evaluation_examples.py

# Builds and checks sdist and wheel, installs the wheel into an environment made from nothing, outside of the repository,
# and runs all that the README shows and the frameworks' examples there; says how long a first answer took. Minutes, and
# twice the size of torch.
wheel-test: .venv/installed
	$(BIN)/python -m benchmarks.fresh_wheel

# The newest clients of PyPI and npm against the service, in environments of their own (1 GB); needs node and npm.
client-test: .venv/installed
	$(BIN)/python -m benchmarks.clients --npm --folder .clients

# Every method on every task with smollm2, eight items each: under 20 minutes on two cores; build/bench/evidence.md.
bench: .venv/installed
	$(BIN)/python -m benchmarks.evidence --items 8 --out build/bench

# The same on all items, an hour on two cores; writes docs/evidence.md.
evidence: .venv/installed
	$(BIN)/python -m benchmarks.evidence

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python docs/generate.py --check

docs: .venv/installed
	$(BIN)/python docs/generate.py

# The documentation as a site, in site/: no broken link, no warning. Light: neither torch nor fairpos is installed for it.
DOCS := .venv-docs
$(DOCS)/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip install --quiet --upgrade pip
	$(DOCS)/bin/python -m pip install --quiet --constraint constraints.txt --group docs
	touch $@

docs-site: $(DOCS)/installed
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

serve: .venv/installed
	$(BIN)/python -m fairpos serve --model smollm2

clean:
	rm -rf .venv .venv-docs .venv-langchain .venv-integrations .venv-ray .clients site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
