# make help lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The embedded engine's kernels use Go's simd package, which sits behind an
# experiment. Without it everything works, slower.
export GOEXPERIMENT ?= simd
export CGO_ENABLED ?= 1
# go-nvml binds functions that its header calls deprecated; that is not our news.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations

CACHE := $(CURDIR)/.cache
BIN   := $(CURDIR)/bin/kvasir
LISTEN ?= :8000
WORKERS ?= 2

.PHONY: help up fleet build test test-deps test-vllm bench-vllm soak-vllm check generate bench fuzz soak clean

help: ## This list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: build ## Run a gateway with two embedded workers and a real model, here and now
	@model=$$(deploy/fetch-model.sh) || echo "make up: no demo model; the built-in tiny random model serves instead, and its answers are noise" >&2; \
	exec $(BIN) up --listen $(LISTEN) --workers $(WORKERS) $${model:+--model "$$model"}

fleet: build ## Run a gateway with two real vLLM engines on CPUs and a real model (5 GB on disk, once)
	@exec internal/e2e/vllm/fleet.sh $(BIN) $(patsubst :%,127.0.0.1:%,$(LISTEN))

build: ## Build bin/kvasir
	go build -o $(BIN) ./cmd/kvasir

test-deps: ## Install what the tests need (make test does it too)
	internal/e2e/deps.sh $(CACHE)/test.env

test: build test-deps ## Install what the tests need, then run every test
	. $(CACHE)/test.env && go test -timeout 20m ./...
	. $(CACHE)/test.env && go test -race -timeout 20m $(RACE)

# By hand: TestVLLMRanks (data parallelism; five more processes that each import
# vLLM) and TestVLLMGroups (a hybrid model).
VLLM_TESTS ?= ^TestVLLM(Tiers)?$$

test-vllm: build test-deps ## Install vLLM for CPUs (5 GB, once) and run the tests against it
	@internal/e2e/vllm/install.sh >$(CACHE)/vllm.env || { \
		echo "test-vllm: vLLM could not be installed here; nothing was tested against it" >&2; exit 0; }; \
	. $(CACHE)/test.env && . $(CACHE)/vllm.env && go test -count=1 -timeout 2h -v -run '$(VLLM_TESTS)' ./internal/e2e

bench-vllm: export KVASIR_BENCH_ROUNDS ?= 2
bench-vllm: VLLM_TESTS = ^TestVLLMBench$$
bench-vllm: test-vllm ## TTFT of four ways to serve from two real vLLM engines (about 20 minutes; wants a quiet machine)

soak-vllm: export KVASIR_SOAK ?= 30m
soak-vllm: VLLM_TESTS = ^TestVLLMSoak$$
soak-vllm: test-vllm ## Half an hour of load on two real vLLM engines, one of them killed every two minutes

# What runs again under the race detector: all that has goroutines. The engine's
# arithmetic has none of its own besides a worker pool, and is slow there.
RACE := ./gateway ./workers ./workers/agent ./workers/discovery ./workers/events ./workers/engine/embedded ./kvbm/... ./prefixindex ./router ./internal/e2e

check: ## gofmt, vet, staticcheck, go.mod, generated files, house rules
	@out=$$(gofmt -l cmd gateway router prefixindex kvbm cuda workers internal); [ -z "$$out" ] || { echo "not gofmt'ed: $$out"; exit 1; }
	go mod tidy -diff
	go vet ./...
	go run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...
	go test ./internal/house
	go test ./cmd/kvasir -run TestReferencePages
	workers/agent/agentpb/generate.sh
	@git diff --exit-code --stat -- workers/agent/agentpb || { echo "the protobuf code was out of date; commit it"; exit 1; }

generate: ## Regenerate protobuf code and the reference pages
	workers/agent/agentpb/generate.sh
	go test ./cmd/kvasir -run TestReferencePages -rewrite

bench: ## Benchmarks of the hot paths, each beside its limit
	. $(CACHE)/test.env; go test -run '^$$' -bench . -benchtime 1s ./...

fuzz: build test-deps ## Every fuzz target for FUZZTIME (10s), the randomised tests EFFORT (10) times larger
	. $(CACHE)/test.env && KVASIR_EFFORT=$${EFFORT:-10} go test -timeout 0 ./gateway/tokenizer
	@set -e; for pkg in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
			echo "$$pkg $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $${FUZZTIME:-10s} $$pkg; done; done

soak: build test-deps ## Ten minutes of mixed load at concurrency 32; memory and goroutines must stay flat
	. $(CACHE)/test.env && KVASIR_SOAK=$${SOAK:-10m} go test -v -timeout 30m -run TestSoak ./internal/e2e

clean: ## Remove what was built; the model's cache stays
	rm -rf bin .cache
