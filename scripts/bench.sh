#!/usr/bin/env bash
# Measures, side by side, on virtual hosts of this machine. As root.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
BUILT=$(realpath "${CARGO_TARGET_DIR:-target}/release")
need_packages iproute2
export WEFT_BIN=${WEFT_BIN:-$BUILT/weft}
as_root env "WEFT_BIN=$WEFT_BIN" "$BUILT/weft-bench" "$@"
