# What there is to do here: `make help`.

CARGO   ?= cargo
PREFIX  ?= /usr/local
DESTDIR ?=
KEEP    ?=
TARGET  := $(or $(CARGO_TARGET_DIR),target)

# `sudo make …` builds as whoever called sudo: their toolchain, their files.
ifneq ($(SUDO_USER),)
BUILD := sudo -H -u $(SUDO_USER) bash -lc 'cd "$(CURDIR)" && exec "$$@"' build $(CARGO)
else
BUILD := $(CARGO)
endif

.DEFAULT_GOAL := help
.PHONY: help build demo test bench check fix install docker-plugin

help: ## Show this
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

build: ## Build everything for development
	$(BUILD) build --locked -p weft -p weft-tests --bins --examples

demo: build ## Two hosts, two containers, one network: shown and checked (KEEP=1 leaves it up)
	@KEEP=$(KEEP) scripts/demo.sh $(TARGET)/debug

test: build ## Run all tests (needs root: they make network namespaces)
	@scripts/test.sh

bench: ## Measure, side by side
	$(BUILD) build --locked --release -p weft -p weft-bench
	@scripts/bench.sh

check: ## Everything that must hold before a change goes in
	@.ci/run

fix: ## Format, and mend what clippy can mend
	$(BUILD) fmt --all
	$(BUILD) clippy --locked --workspace --all-targets --fix --allow-dirty --allow-staged

install: ## Install the program, its manual, completions and service (PREFIX, DESTDIR)
	$(BUILD) build --locked --release -p weft
	install -Dm755 $(TARGET)/release/weft $(DESTDIR)$(PREFIX)/bin/weft
	install -d $(DESTDIR)$(PREFIX)/share/man/man1
	$(TARGET)/release/weft man $(DESTDIR)$(PREFIX)/share/man/man1
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(TARGET)/release/weft completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/weft
	$(TARGET)/release/weft completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_weft
	$(TARGET)/release/weft completion fish >$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/weft.fish
	install -Dm644 packaging/weft.toml $(DESTDIR)$(PREFIX)/share/doc/weft/weft.toml
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's|@PREFIX@|$(PREFIX)|' packaging/weft.service >$(DESTDIR)$(PREFIX)/lib/systemd/system/weft.service

# Linked statically: the plugin's file system holds the program and nothing else.
STATIC := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')

docker-plugin: ## Put Docker's managed plugin together, in target/docker-plugin
	$(BUILD) build --locked --release -p weft --target $(STATIC) --config 'build.rustflags="-Ctarget-feature=+crt-static"'
	packaging/docker-plugin/build.sh $(TARGET)/$(STATIC)/release/weft target/docker-plugin
	@echo "docker plugin create weft target/docker-plugin && docker plugin enable weft"
