#!/usr/bin/env bash
# The shortcut's programs as an object, with the compiler that the committed one was made with.
#   scripts/ebpf.sh build   makes ebpf/programs/shortcut.o anew
#   scripts/ebpf.sh check   fails unless that is what lies there
# The same is made everywhere: no header comes from the system, and names are those below ebpf/.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
need_packages clang-19 llvm-19

OBJECT=ebpf/programs/shortcut.o
made=$(mktemp)
trap 'rm -f "$made"' EXIT
(
    cd ebpf
    clang-19 @programs/flags -Werror -c programs/shortcut.c -o "$made"
    llvm-strip-19 -g "$made"
)
case ${1:-} in
build)
    install -m 644 "$made" "$OBJECT"
    echo "$OBJECT: $(stat -c %s "$OBJECT") octets"
    ;;
check)
    cmp "$made" "$OBJECT" || {
        echo "$OBJECT is not what the sources make: run scripts/ebpf.sh build, and commit it with them"
        exit 1
    }
    ;;
*)
    echo "usage: $0 build|check"
    exit 2
    ;;
esac
