# Everything here needs Go, git and make; `make test` uses a C compiler for the
# race detector where there is one.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# -race where cgo works: the Go command turns cgo off without a C compiler.
RACE := $(if $(filter 1,$(shell go env CGO_ENABLED)),-race)
TESTFLAGS ?=
# Without its traces gRPC needs no templates, which are 4 MB of a program.
TAGS := grpcnotrace
# Packages that a consumer on any system may import.
PORTABLE := ./rotation/... ./projector/payload/... ./projector/atomicdir/... ./proto/... ./tokenfile/...
FUZZTIME ?= 10s
BENCHFLAGS ?=
FAULTFLAGS ?=
E2EFLAGS ?=
HOSTILE ?= 10000
IMAGE ?= ghcr.io/token-projector/projectord:dev
ARCHS := amd64 arm64
# For tools/api, run in tools/: the public Go packages, and what they were.
API := -module .. -baseline api/baseline.txt

.PHONY: help
help: ## show this list
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## run the main job on a real control plane and check it (root or not)
	@echo "The first run fetches modules and compiles etcd, kube-apiserver and kube-controller-manager:"
	@echo "about 8 minutes and 3 GB of cache on 2 cores. Compiling the demo itself ..."
	@cd test && go build -o ../bin/demo ./cmd/demo && $(if $(DEMO_KUBECONFIG),DEMO_KUBECONFIG=$(abspath $(DEMO_KUBECONFIG))) exec ../bin/demo

.PHONY: record-demo
record-demo: ## run the demo and put its output into the README
	mkdir -p bin
	$(MAKE) -s demo >bin/demo.txt
	awk '/<!-- end demo -->/ { skip = 0 } !skip { print } /<!-- begin demo -->/ { skip = 1; print "```"; \
		while ((getline line < "bin/demo.txt") > 0) print line; print "```" }' README.md >bin/README.new
	mv bin/README.new README.md

.PHONY: test
test: controlplane ## run all tests, against a real kube-apiserver where it matters
	go test $(RACE) $(TESTFLAGS) ./...
	@# -count=1: the programs under test are built by the tests, so the cache can't know.
	cd test && go test -count=1 $(RACE) $(TESTFLAGS) -timeout 5m -parallel 16 ./...
	cd tools && go test $(TESTFLAGS) ./...

.PHONY: build
build: ## build bin/projectord and bin/projectorctl
	CGO_ENABLED=0 go build -tags $(TAGS) -trimpath -o bin/ ./cmd/...

# The image's program is the same for everyone who builds a commit with the
# same Go: nothing of the builder's settings goes in, and git's state does.
.PHONY: image
image: ## build the container image, linux/amd64 and arm64: bin/image, bin/projectord-image.tar (IMAGE=name:tag)
	@for arch in $(ARCHS); do CGO_ENABLED=0 GOWORK=off GOFLAGS=-buildvcs=true GOOS=linux GOARCH=$$arch GOAMD64=v1 GOARM64=v8.0 \
		go build -tags $(TAGS) -trimpath -ldflags '-s -w -buildid=' -o bin/linux-$$arch/ ./cmd/projectord || { echo "an image needs a git clone: its version is the commit's"; exit 1; }; done
	@cd tools && go run ./image -name $(IMAGE) -o ../bin/projectord-image.tar -alias projectorctl -sbom ../bin \
		-label org.opencontainers.image.description='Projects and rotates bound service-account tokens for the Pods of a node' \
		-label org.opencontainers.image.licenses=Apache-2.0 \
		-label org.opencontainers.image.source=https://github.com/token-projector/token-projector \
		$(foreach arch,$(ARCHS),../bin/linux-$(arch)/projectord)
	@rm -rf bin/image && mkdir bin/image && tar -xf bin/projectord-image.tar -C bin/image

.PHONY: image-check
image-check: ## build the image of HEAD once more, elsewhere, compare the bytes, and check what is in it
	@[[ -z $$(git status --porcelain) ]] || { echo "only a commit can be built again: commit or stash first"; exit 1; }
	@$(MAKE) -s image
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && git clone -q . "$$dir/elsewhere" && $(MAKE) -s -C "$$dir/elsewhere" image >/dev/null && \
		for f in projectord-image.tar $(ARCHS:%=sbom-%.cdx.json); do cmp bin/$$f "$$dir/elsewhere/bin/$$f"; done
	cd tools && go test ./image/... -args -layout=$(CURDIR)/bin/image
	@echo "RESULT image_check identical=true"

.PHONY: bench
bench: ## print each figure on a RESULT line; fail on one above its limit (BENCHFLAGS=-missed=report: times only report)
	cd test && go test -run '^$$' -bench . -benchtime 1x -timeout 30m ./bench/ -args $(BENCHFLAGS)

.PHONY: faults
faults: controlplane ## break what can break, under a referee (root, strace); FAULTFLAGS='-kills=5000 -swaps=200000 -scenario-seconds=900' takes longer
	go test -count=1 -run TestHostileWorkload -v ./projector/atomicdir -args -hostile-publishes=$(HOSTILE)
	cd test && go test -tags faults -count=1 -timeout 60m -parallel 16 -v ./faults -args $(FAULTFLAGS)

# What runs on an API server that emulates an older one.
SKEW := TestMainJob|TestBoundTokens|TestRestart|TestAPIServerAway|TestOwnCredential|TestServiceAccount|TestStrictPolicy|TestThiefOfAServiceAccount|TestAuto|TestTrustBundlesThatAreNotServed

.PHONY: skew
skew: controlplane ## the main job and the identities with the API server as Kubernetes 1.36, 1.35 and 1.34
	cd test && for v in 1.36 1.35 1.34; do echo "as Kubernetes $$v"; \
		go test -count=1 -timeout 10m -parallel 16 -v ./integration -run "$(SKEW)$$([[ $$v < 1.36 ]] || echo '|TestImpersonate|TestThief|TestChosenNamespaces')" \
		-args -emulated-version=$$v || exit 1; done

.PHONY: parity
parity: ## compare volumes with a real kubelet's (root, containerd; INSTALL=1 installs it)
	$(if $(INSTALL),apt-get update -qq && apt-get install -y -qq --no-install-recommends containerd runc)
	cd test && go run ./cmd/devcluster build kubelet && go test -tags parity -count=1 -timeout 15m -v ./parity

.PHONY: e2e
e2e: ## run DaemonSets on a real node (root, containerd, CNI plugins, strace; INSTALL=1 installs them); E2EFLAGS=-csi-kills=0 takes longer
	$(if $(INSTALL),apt-get update -qq && apt-get install -y -qq --no-install-recommends containerd runc containernetworking-plugins strace)
	cd test && go run ./cmd/devcluster build e2e && go test -tags e2e -count=1 -timeout 25m -v ./e2e -args $(E2EFLAGS)

.PHONY: interop
interop: controlplane bin/grpcurl bin/interop ## have grpcurl and Node.js use the socket (npm)
	cd test && go test -tags interop -count=1 -timeout 5m -v ./integration -run TestInterop

.PHONY: runtimes
runtimes: controlplane ## run processes as Pods by a toy runtime, and do what docs/runtimes.md says (root)
	cd test && go test -tags runtimes -count=1 -timeout 5m -parallel 8 -v ./runtimes

.PHONY: alerts
alerts: bin/promtool ## test the alert rules, and the metrics' names
	bin/promtool check rules deploy/monitoring/alerts.yaml
	cd deploy/monitoring && ../../bin/promtool test rules alerts.test.yaml
	go test -count=1 ./internal/metrics -run TestMetrics -args -write=$(CURDIR)/bin/metrics.txt
	bin/promtool check metrics <bin/metrics.txt

.PHONY: manifests
manifests: controlplane bin/kustomize bin/kubeconform ## check all that is below deploy/: with kubeconform, and by asking a real kube-apiserver
	cd test && go test -tags manifests -count=1 -timeout 5m -v ./manifests

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (10s)
	go test -run '^$$' -fuzz FuzzParseClaims -fuzztime $(FUZZTIME) ./rotation
	go test -run '^$$' -fuzz FuzzWhole -fuzztime $(FUZZTIME) ./tokenfile
	go test -run '^$$' -fuzz FuzzFromAttributes -fuzztime $(FUZZTIME) ./projector/payload
	go test -run '^$$' -fuzz FuzzParseTarget -fuzztime $(FUZZTIME) ./internal/csi
	go test -run '^$$' -fuzz FuzzRequests -fuzztime $(FUZZTIME) ./internal/runtimeapi
	go test -run '^$$' -fuzz FuzzCleanPath -fuzztime $(FUZZTIME) ./projector/atomicdir
	@# The default of a minute for making each input smaller would leave none for running them.
	go test -run '^$$' -fuzz FuzzPublishOverAnything -fuzzminimizetime 10x -fuzztime $(FUZZTIME) ./projector/atomicdir

.PHONY: lint
lint: bin/golangci-lint bin/buf ## check style, formatting, go.mod files, proto/, the public packages and builds for other systems
	bin/buf lint
	bin/buf format --diff --exit-code
	bin/buf breaking --against proto/baseline.binpb
	cd tools && go run ./api $(API)
	bin/golangci-lint run ./...
	@for m in test tools; do (cd $$m && ../bin/golangci-lint run --config ../.golangci.yml ./...) || exit 1; done
	@for m in . test tools; do (cd $$m && go mod tidy -diff >/dev/null) || { echo "$$m/go.mod is not tidy: run 'go mod tidy' there"; exit 1; }; done
	@for os in darwin windows; do for arch in amd64 arm64; do GOOS=$$os GOARCH=$$arch go build $(PORTABLE); done; done
	GOARCH=arm64 go build ./...

.PHONY: generate
generate: bin/buf ## rewrite what is generated: docs/flags.md, docs/projectorctl.md, the PrometheusRule, Go code of proto/
	bin/buf generate
	go test ./cmd/projectord -run TestFlagsAreDocumented -update
	go test ./internal/ctl -run TestDocumentedOutput -update
	@{ echo '# Generated from deploy/monitoring/alerts.yaml by `make generate`.'; \
		printf '%s\n' 'apiVersion: monitoring.coreos.com/v1' 'kind: PrometheusRule' \
			'metadata:' '  name: projectord' '  namespace: projectord' 'spec:'; \
		sed -n '/^groups:/,$$p' deploy/monitoring/alerts.yaml | sed 's/^\(.\)/  \1/'; } >deploy/daemonset/components/monitoring/prometheusrule.yaml

# Who built against an older version must not break unnoticed.
.PHONY: proto-baseline
proto-baseline: bin/buf ## take proto/ as it is for what `make lint` compares it with: after a change that is meant to break
	bin/buf build -o proto/baseline.binpb --exclude-source-info

.PHONY: api-baseline
api-baseline: ## take the public Go packages as they are for what `make lint` compares them with: after additions, and what is meant to break
	cd tools && go run ./api $(API) -update

.PHONY: controlplane
controlplane: ## build etcd, kube-apiserver and kube-controller-manager into the cache, once
	@cd test && go run ./cmd/devcluster build

.PHONY: bump-kube
bump-kube: ## change the Kubernetes version: make bump-kube VERSION=1.37.2
	test/bump-kube.sh $(VERSION)

.PHONY: clean
clean: ## remove what was built here; the control plane stays in the user's cache
	rm -rf bin

# As a Go module promtool brings the clients of a dozen clouds; Debian has it built.
bin/promtool:
	@mkdir -p bin
	@if command -v promtool >/dev/null; then ln -sf "$$(command -v promtool)" bin/promtool; \
	else dir=$$(mktemp -d) && cd $$dir && apt-get update -qq && apt-get download -qq -o APT::Sandbox::User=root prometheus && \
		dpkg -x prometheus_*.deb . && cp usr/bin/promtool $(CURDIR)/bin/ && rm -rf $$dir; fi

bin/golangci-lint: tools/go.mod tools/go.sum
	cd tools && go build -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

bin/buf: tools/go.mod tools/go.sum
	cd tools && go build -o ../bin/buf github.com/bufbuild/buf/cmd/buf

bin/grpcurl: tools/go.mod tools/go.sum
	cd tools && go build -o ../bin/grpcurl github.com/fullstorydev/grpcurl/cmd/grpcurl

bin/interop: $(wildcard test/interop/*)
	@rm -rf bin/interop && mkdir -p bin/interop && cp test/interop/* bin/interop/
	cd bin/interop && npm ci --ignore-scripts --no-audit --no-fund
	@touch bin/interop

bin/kustomize: tools/go.mod tools/go.sum
	cd tools && go build -o ../bin/kustomize sigs.k8s.io/kustomize/kustomize/v5

bin/kubeconform: tools/go.mod tools/go.sum
	cd tools && go build -o ../bin/kubeconform github.com/yannh/kubeconform/cmd/kubeconform
