#!/usr/bin/env bash
# Measures, side by side, on virtual hosts of this machine. As root. Arguments are those of weft-bench:
# `scripts/bench.sh compare --quick`, `scripts/bench.sh plan rows`; without any, everything is measured.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
BUILT=$(realpath "${CARGO_TARGET_DIR:-target}/release")
need_packages iproute2 iputils-ping procps util-linux
case " $* " in
*" compare "* | *" start "*) compare=yes ;;
*" plan "* | *" rows "* | *" attach "* | *" memory "*) compare='' ;;
*) compare=yes ;;
esac
# What Weft is compared with, and what measures it. None of these is to run on this machine itself.
[ -z "$compare" ] || need_packages_that_stay_off \
    docker.io busybox-static iperf3 sockperf apache2-utils nginx-light redis-server redis-tools
export WEFT_BIN=${WEFT_BIN:-$BUILT/weft}
as_root env "WEFT_BIN=$WEFT_BIN" "$BUILT/weft-bench" "$@"
