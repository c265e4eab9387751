#!/bin/sh
# Puts a managed plugin for Docker together, ready for `docker plugin create`:
#
#     build.sh WEFT DIRECTORY
#
# The plugin has a file system of its own: the program, and of the system's libraries exactly those
# that it needs, which are none when it was linked statically.
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 WEFT DIRECTORY" >&2
    exit 2
fi
weft=$1 out=$2
here=$(dirname "$0")

rm -rf "$out"
# What is mounted by config.json or by Docker needs a place.
for directory in bin etc proc run sys tmp dev var/lib/weft; do
    mkdir -p "$out/rootfs/$directory"
done
ln -s /run "$out/rootfs/var/run"
cp "$weft" "$out/rootfs/bin/weft"
cp "$here/config.json" "$out/config.json"

# "not a dynamic executable" or "statically linked": nothing more is needed.
if libraries=$(ldd "$weft" 2>/dev/null); then
    echo "$libraries" | sed -n 's|^[^/]*\(/[^ ]*\) (0x.*|\1|p' | while read -r library; do
        mkdir -p "$out/rootfs$(dirname "$library")"
        cp -L "$library" "$out/rootfs$library"
    done
fi
