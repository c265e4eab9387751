# Sourced by others: `need_packages NAME…` installs the Debian packages that are not there yet, as root
# or through sudo. Nothing is downloaded when nothing is missing.

as_root() {
    if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

is_installed() { [ "$(dpkg-query -W -f '${Status}' "$1" 2>/dev/null)" = "install ok installed" ]; }

need_packages() {
    local missing=() package
    command -v dpkg-query >/dev/null || { echo "not Debian: make sure that these are installed: $*"; return 0; }
    for package in "$@"; do
        is_installed "$package" || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return 0
    echo "installing missing packages: ${missing[*]}"
    as_root apt-get update -qq
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# The same for packages that bring services: they are installed, but nothing is started.
#
# Debian asks /usr/sbin/policy-rc.d before it starts anything. Where there is one already, somebody has
# decided, and it stays.
need_packages_that_stay_off() (
    policy=/usr/sbin/policy-rc.d missing=''
    for package in "$@"; do
        ! command -v dpkg-query >/dev/null || is_installed "$package" || missing=yes
    done
    if [ -n "$missing" ] && [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        trap 'exit 130' INT TERM
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
    fi
    need_packages "$@"
)
