# One line a recipe; what needs more is a script in dev/.
.DEFAULT_GOAL := help
.PHONY: help build demo demo-short demo-mapped demo-bidirectional demo-hub-and-spoke test lint check stack-up stack-down stack-status bench-smoke bench-node bench-mapping clean

help: ## What there is to make
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 22

build: ## The program: target/release/syncline
	dev/tools && cargo build --release --locked --workspace

demo: ## Two databases kept in step, before your eyes (KEEP=1: until Ctrl-C)
	dev/demo

demo-short: ## The same with less data
	dev/demo --short

demo-mapped: ## The same through mappings, filters and transforms
	dev/demo --mapped

demo-bidirectional: ## Two databases, both written to, with conflicts
	dev/demo --bidirectional

demo-hub-and-spoke: ## Three databases, all written to, with a rule for each table
	dev/demo --hub-and-spoke

test: ## All tests, on servers of their own
	dev/test

lint: ## Every rule that a program can hold
	dev/lint

check: lint ## The same

stack-up: ## Kafka, registry, source and target (WITH="connect mariadb mysql": those too)
	dev/stack up $(WITH)

stack-down: ## Stop them, keep the data
	dev/stack down

stack-status: ## What runs where
	dev/stack status

bench-smoke: ## Rates beside their bounds, in a few minutes
	dev/bench syncline-bench

bench-node: ## What a node takes beside a one-way target
	dev/bench bench-node

bench-mapping: ## What a mapping costs an event
	cargo run --release --locked --package syncline-bench --bin bench-mapping

clean: ## Remove what was built, and the development stack's data
	dev/stack clean && cargo clean
