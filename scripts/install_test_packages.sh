#!/usr/bin/env bash
# Debian packages for the tests: a JDK with JUnit, Gradle, a cell and another clock (execution), Slurm and munge (job scripts). Needs root; where apt or
# root is missing it says so, and the tests that need the packages skip themselves with a reason (in CI they fail).
set -euo pipefail

packages=(openjdk-17-jdk-headless gradle junit4 junit5 libhamcrest-java bubblewrap faketime slurm-wlm munge)
missing=()
for package in "${packages[@]}"; do
    case $package in
        openjdk-17-jdk-headless) command -v javac >/dev/null && continue ;;
    esac
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
    echo "note: not installed (needs root and apt): ${missing[*]}; tests that need them will say so" >&2
    exit 0
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# The services that the packages would start are not wanted: the tests run their own on loopback.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    trap 'rm -f "$policy"' EXIT
fi
apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
