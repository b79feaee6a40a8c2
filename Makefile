# Bare `make` prints the targets. Continuous integration calls these targets and nothing else.

GO       ?= go
ARGS     ?=
FUZZTIME ?= 10s
PKGS     ?= ./...
TESTS    ?= -count=1 -p 2 -timeout 40m
REPEAT   ?= 20
# What touches a database or Redis.
STORES   := ./consumer ./internal/worker ./internal/replica/... ./internal/jobs ./internal/admin/... ./internal/consistency ./internal/mysql ./internal/e2e ./invalidation/... \
            ./migrations ./cmd/freshet/... ./examples/...
# serve starts Kafka, MariaDB and Redis once for the command that follows it, installing what is missing, and stops them.
SERVE    := $(GO) run ./internal/testenv/serve
LINT     := .cache/bin/golangci-lint

.DEFAULT_GOAL := help
.PHONY: help demo test test-matrix flakes faults check fmt fmt-check vet lint imports tidy verify build build-static check-deploy licences race fuzz bench bench-apply bench-workloads bench-publish bench-latency bench-relay bench-backfill console-shots clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## run everything embedded, with traffic and chaos keys; needs nothing but Go (ARGS="--help" lists options)
	$(GO) run ./cmd/freshet-dev $(ARGS)

build: ## build bin/freshet
	CGO_ENABLED=0 $(GO) build -trimpath -o bin/freshet ./cmd/freshet

test: ## install and start the real servers, then run all tests
	$(SERVE) $(GO) test $(TESTS) $(ARGS) $(PKGS)

test-matrix: ## the tests that touch a database or Redis, on MySQL 9 with Valkey 9, then with Redis 8 (Debian; nothing is installed)
	FRESHET_TEST_FLAVOR=mysql+valkey $(SERVE) $(GO) test $(TESTS) $(ARGS) $(STORES)
	FRESHET_TEST_FLAVOR=mysql+redis $(SERVE) $(GO) test $(TESTS) $(ARGS) $(filter-out ./migrations,$(STORES))

# A test that is not in the table passed every time. The log of each failure is above the table.
flakes: ## repeat all tests REPEAT times (20) and print how often each one failed (PKGS, ARGS as for test)
	@$(SERVE) $(GO) test -json -count=$(REPEAT) -p 2 -timeout 3h $(ARGS) $(PKGS) | awk -f internal/testenv/flakes.awk

faults: ## fault campaigns at full length: kills at each point, zombies, storms, dying servers (FRESHET_FAULTS_SEED repeats one)
	FRESHET_FAULTS=full $(SERVE) $(GO) test $(TESTS) -timeout 90m -v -run 'KilledAtEach|ZombieWakes|RebalanceStorm|DatabaseDies|DeadlocksAnd|BrokerRestarts|RedisStandsStill|NodeProcessStandsStill|PoisonAmong|BacklogStays|ViewersPoll' $(ARGS) ./internal/e2e ./invalidation ./internal/kafkalog/group

race: ## all tests under the race detector
	$(SERVE) $(GO) test -race $(TESTS) $(ARGS) $(PKGS)

check: fmt-check vet lint imports tidy verify build-static check-deploy ## everything that needs no servers: format, vet, lint, imports, modules, generated files, static build

fmt: $(LINT) ## format the tree
	$(LINT) fmt

fmt-check: $(LINT)
	$(LINT) fmt --diff

vet:
	$(GO) vet ./...

lint: $(LINT) ## golangci-lint, built from tools/go.mod
	$(LINT) run --timeout 15m ./...

imports: ## who may import whom
	$(GO) test -count=1 -run '^TestImports' .

tidy:
	$(GO) mod tidy -diff
	$(GO) mod verify
	cd deploy/check && $(GO) mod tidy -diff

verify: ## generated files are what their generators make
	@before=$$(git diff | cksum); $(GO) generate ./...; after=$$(git diff | cksum); \
	if [ "$$before" != "$$after" ]; then git --no-pager diff --stat; echo "generated files differ: commit what go generate made"; exit 1; fi

build-static:
	CGO_ENABLED=0 $(GO) build ./...

check-deploy: ## the chart as Helm renders it, and the compose file as Docker Compose reads it
	cd deploy/check && $(GO) vet ./... && $(GO) test -count=1 ./...

licences: ## copy the licences of every module that freshet links into DIR
	@test -n "$(DIR)" || { echo "say where: make licences DIR=..."; exit 1; }
	@$(GO) list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Dir}}{{end}}{{end}}' ./cmd/freshet | sort -u | while read -r path dir; do \
		mkdir -p "$(DIR)/$$path" && find "$$dir" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' \) -exec cp {} "$(DIR)/$$path/" \; ; \
		[ -n "$$(ls -A "$(DIR)/$$path")" ] || { echo "$$path has no licence"; exit 1; }; \
	done && cp LICENSE "$(DIR)/"

fuzz: ## each fuzz target for FUZZTIME (10s)
	@list=$$($(GO) test -list '^Fuzz' $(PKGS)) || { echo "$$list"; exit 1; }; \
	echo "$$list" | awk '/^Fuzz/ { name[++n] = $$1; next } /^ok/ { for (i = 1; i <= n; i++) print $$2, name[i]; n = 0 }' \
	| while read -r pkg name; do \
		echo "$$pkg $$name"; \
		$(GO) test -run '^$$' -fuzz "^$$name\$$" -fuzztime $(FUZZTIME) "$$pkg" || exit 1; \
	done

bench: ## all benchmarks, on the real servers
	$(SERVE) $(GO) test -run '^$$' -bench . -benchmem -count=1 -timeout 30m $(ARGS) $(PKGS)

bench-apply: ## events per second into MariaDB, beside a consumer written by hand and the bare statement
	$(SERVE) -settings $(GO) run ./cmd/freshet bench apply $(ARGS)

bench-workloads: ## bench-apply for each workload: the tables of docs/benchmarks.md
	$(SERVE) -settings sh -c 'for w in mixed insert update skew delete replay; do $(GO) run ./cmd/freshet bench apply --log-level error --workload $$w $(ARGS) || exit 1; done'

bench-publish: ## what an event costs the service that publishes it, beside franz-go and kafka-go
	$(SERVE) -settings $(GO) run ./cmd/freshet bench publish $(ARGS)

bench-latency: ## publish until the row is visible and until every node dropped its entry, beside the same path by hand
	$(SERVE) -settings $(GO) run ./cmd/freshet bench latency $(ARGS)

bench-relay: ## how fast a relay drains an outbox, and what it costs the writers
	$(SERVE) -settings $(GO) run ./cmd/freshet bench relay $(ARGS)

bench-backfill: ## how fast existing rows are loaded through the outbox, and what it costs the writers
	$(SERVE) -settings $(GO) run ./cmd/freshet bench backfill $(ARGS)

console-shots: ## pictures of every screen of the console, in both themes and at two widths, in DIR
	@test -n "$(DIR)" || { echo "say where: make console-shots DIR=..."; exit 1; }
	FRESHET_TEST_CONSOLE_SHOTS="$(abspath $(DIR))" FRESHET_TEST_SERVERS=native $(SERVE) $(GO) test -count=1 -timeout 10m -run '^TestConsoleShots$$' $(ARGS) ./internal/e2e

# One build per version of tools/go.mod. GOFLAGS=-mod=mod in a user's environment would change tools/go.sum.
$(LINT): tools/go.mod tools/go.sum
	@mkdir -p $(@D)
	GOFLAGS=-mod=readonly $(GO) build -C tools -o ../$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $(LINT)

clean: ## remove what was built here
	rm -rf bin .cache
