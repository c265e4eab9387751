#!/usr/bin/env bash
# All tests, by cargo-nextest where it is installed. As root, because most make network namespaces.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
need_packages bpftool ethtool iproute2 nftables iptables iputils-ping dnsutils procps util-linux curl
# Engines run on virtual hosts only; none is to run on this machine itself.
need_packages_that_stay_off docker.io docker-compose busybox-static

run=()
if [ "$(id -u)" -ne 0 ]; then
    # The toolchain of whoever calls, with root's rights.
    run=(sudo --preserve-env=CARGO_HOME,RUSTUP_HOME,CARGO_TARGET_DIR,WEFT_BIN "PATH=$PATH" "HOME=$HOME")
elif [ -n "${SUDO_USER:-}" ] && ! command -v cargo >/dev/null; then
    home=$(getent passwd "$SUDO_USER" | cut -d: -f6)
    export PATH="$home/.cargo/bin:$PATH" CARGO_HOME="$home/.cargo" RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
fi

# The stories run real daemons: the program must be there, and be the one of this tree.
"${run[@]}" cargo build --locked -p weft
if cargo nextest --version >/dev/null 2>&1; then
    exec "${run[@]}" cargo nextest run --locked --workspace --config-file .ci/nextest.toml "$@"
fi
exec "${run[@]}" cargo test --locked --workspace --no-fail-fast "$@"
