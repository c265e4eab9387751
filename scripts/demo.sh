#!/usr/bin/env bash
# Two containers on two hosts, as if on one switch: sets it up, shows it, checks it, takes it down.
#
#        host a  172.10.0.15                     host b  172.10.0.16
#   ┌──────────────────────────┐           ┌──────────────────────────┐
#   │  web-1  10.3.0.2         │           │         10.3.0.5  web-2  │
#   │    └─[bridge]──[VTEP]    │           │    [VTEP]──[bridge]─┘    │
#   │                   └──────┼─ VXLAN ───┼──────┘                   │
#   └──────────────────────────┘ UDP 4789  └──────────────────────────┘
#
# Both hosts are network namespaces on a virtual cable; nothing touches the machine's own network.
# KEEP=1 leaves everything up. The first argument is where cargo put what it built.
set -euo pipefail
cd "$(dirname "$0")/.."

BUILT=$(realpath "${1:-target/debug}")
KEEP=${KEEP:-}
if [ "$(id -u)" -ne 0 ]; then
    exec sudo KEEP="$KEEP" "$0" "$BUILT"
fi
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
need_packages iproute2 iputils-ping curl util-linux

LAB=demo
WEFT=$BUILT/weft
# Goes with the lab.
WORK=/run/weft-lab/$LAB/demo
failures=0
on() { # on HOST CMD…: a command on a virtual host
    local host=$1
    shift
    "$WEFT" lab exec --name "$LAB" "$host" -- "$@"
}
inside() { # inside CONTAINER CMD…: a command in a container, with its names
    local pid
    pid=$(cat "$WORK/$1.pid")
    shift
    nsenter --net="/proc/$pid/ns/net" --mount="/proc/$pid/ns/mnt" -- "$@"
}

clean_up() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    if [ -n "$KEEP" ] && [ "$status" -eq 0 ]; then
        what_next
    else
        echo
        if "$WEFT" lab down --name "$LAB" 2>/dev/null; then echo "everything is taken down"; fi
    fi
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

headline() { printf '\n== %s\n' "$*"; }

# check WHAT CMD…: prints what is checked, what the command printed, and how it went.
check() {
    local what=$1 begin output status=0
    shift
    begin=$(date +%s%N)
    output=$("$@" 2>&1) || status=$?
    [ -z "$output" ] || printf '%s\n' "$output" | sed 's/^/     /'
    if [ "$status" -eq 0 ]; then
        printf 'ok   %s (%d ms)\n' "$what" $((($(date +%s%N) - begin) / 1000000))
    else
        printf 'FAIL %s (status %d)\n' "$what" "$status"
        failures=$((failures + 1))
    fi
}
# Without the thing before it, what follows makes no sense.
must() {
    local before=$failures
    check "$@"
    if [ "$failures" -gt "$before" ]; then
        for host in a b; do
            [ ! -s "$WORK/daemon-$host.log" ] || { echo "-- the daemon of $host said:"; tail -n 20 "$WORK/daemon-$host.log"; }
        done
        exit 1
    fi
}
wait_for() { # wait_for SECONDS CMD…
    local tries=$(($1 * 20))
    shift
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.05
    done
}

start_daemon() {
    # A session of its own: with KEEP=1 it must outlive this terminal.
    setsid "$WEFT" lab exec --name "$LAB" "$1" -- "$WEFT" daemon >"$WORK/daemon-$1.log" 2>&1 &
    wait_for 10 on "$1" "$WEFT" status
}
init() {
    on a "$WEFT" init >"$WORK/init" && grep -v "^$" "$WORK/init"
}
join_b() {
    # The words that init printed.
    # shellcheck disable=SC2046
    on b "$WEFT" $(grep -o 'join [^ ]* --token .*' "$WORK/init")
}
container() { # container HOST NAME IP
    setsid "$WEFT" lab exec --name "$LAB" "$1" -- "$WEFT" run --network web --name "$2" --ip "$3" -- \
        "$BUILT/examples/hello_http" 80 "Hello from $2 on host $1" "$WORK/$2.pid" >"$WORK/$2.log" 2>&1 &
    wait_for 10 test -s "$WORK/$2.pid" || { cat "$WORK/$2.log"; return 1; }
    inside "$2" ip -brief address show eth0
}
page() { # page FROM OF HOST
    local text
    text=$(inside "$1" curl -sS --max-time 5 "http://$2/")
    echo "$text"
    [ "$text" = "Hello from $2 on host $3" ]
}
packet() {
    local text
    "$BUILT/examples/show_packet" "/run/netns/$LAB-underlay" a 10.3.0.2 10.3.0.5 >"$WORK/packet" &
    local shower=$!
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        inside web-1 ping -n -c1 -W1 web-2 >/dev/null || true
        kill -0 "$shower" 2>/dev/null || break
        sleep 0.2
    done
    wait "$shower" || return 1
    text=$(cat "$WORK/packet")
    echo "$text"
    for part in '172.10.0.15 -> 172.10.0.16' '-> 4789' 'VNI ' '10.3.0.2 -> 10.3.0.5'; do
        grep -qF -- "$part" "$WORK/packet" || { echo "missing: $part"; return 1; }
    done
}
nothing_left() {
    "$WEFT" lab down --name "$LAB" || return 1
    ! ls /run/netns 2>/dev/null | grep "^$LAB-"
}
what_next() {
    cat <<TEXT

Everything is left up. Try, as root:

    export PATH=$BUILT:\$PATH
    weft lab status
    weft lab exec --name $LAB a -- weft status
    weft lab exec --name $LAB a -- weft endpoint ls
    weft lab exec --name $LAB b -- weft run --network web --name web-3 -- bash     # then: ping web-1
    ip netns exec $LAB-underlay tcpdump -e -n -i br0 udp port 4789                 # the wire between the hosts
    weft lab exec --name $LAB b -- bridge fdb show                                 # who is where, as b's kernel knows it

What the daemons say is in $WORK. In the end:

    weft lab down --name $LAB
TEXT
}

if "$WEFT" lab down --name "$LAB" 2>/dev/null; then
    echo "(the one that was left up before is gone)"
fi

headline "Two hosts on one cable"
must "a lab of two hosts is up" "$WEFT" lab up --name "$LAB" --hosts 2
mkdir "$WORK"
must "host a reaches host b" on a ping -n -q -c1 -W2 172.10.0.16
must "a daemon runs on host a" start_daemon a
must "a daemon runs on host b" start_daemon b

headline "One cluster"
must "host a makes the cluster and prints a token" init
must "host b joins with it" join_b
must "host a has network web" on a "$WEFT" network create web --subnet 10.3.0.0/24

headline "Two containers"
must "web-1 runs on host a at 10.3.0.2" container a web-1 10.3.0.2
must "web-2 runs on host b at 10.3.0.5" container b web-2 10.3.0.5

headline "They reach each other, by name"
check "web-1 pings web-2" inside web-1 ping -c3 -i0.2 -W2 web-2
check "web-2 pings web-1" inside web-2 ping -c3 -i0.2 -W2 web-1
check "web-1 gets web-2's page" page web-1 web-2 b
check "web-2 gets web-1's page" page web-2 web-1 a

headline "What the cable between the hosts carries"
check "a packet from web-1 to web-2, layer by layer" packet

headline "What the hosts know"
check "endpoints" on b "$WEFT" endpoint ls
check "status of host a" on a "$WEFT" status
check "status of host b" on b "$WEFT" status
check "nothing is wrong on host a" on a "$WEFT" doctor
check "nothing is wrong on host b" on b "$WEFT" doctor

if [ -z "$KEEP" ]; then
    headline "And away"
    check "nothing is left" nothing_left
fi
echo
if [ "$failures" -eq 0 ]; then
    echo "All checks passed."
else
    echo "$failures checks FAILED."
    exit 1
fi
