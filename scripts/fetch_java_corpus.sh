#!/bin/sh
# Fetch the sources of ten Java libraries from Debian and unpack them into OUTPUT_DIR/<package>.
# apt gets a configuration, state and cache of its own: the system's package lists and sources stay as they are.
# The mirror is the one that the system uses. MIRROR (its address), SUITE, COMPONENTS and KEYRING override what is found.
# With --public, also fetch the repositories of public_java_projects.txt at the commits it names, from GIT_HOST.
# Usage: scripts/fetch_java_corpus.sh OUTPUT_DIR [--public]
set -eu

packages="guava-libraries libcommons-lang3-java libcommons-collections4-java commons-io libcommons-codec-java
jackson-databind zookeeper maven mockito libcommons-lang-java"

list=$(dirname "$0")/public_java_projects.txt

fail() {
    echo "error: $1" >&2
    exit 2
}

usage="scripts/fetch_java_corpus.sh OUTPUT_DIR [--public]"
[ $# -ge 1 ] && [ $# -le 2 ] && [ "${2:---public}" = --public ] || fail "give the folder to write to ($usage)"
if [ "${2:-}" = --public ]; then
    command -v git >/dev/null || fail "git is missing; without --public the ten libraries are fetched with Debian's tools"
fi
for tool in apt-get dpkg-source; do
    command -v "$tool" >/dev/null || fail "$tool is missing; without Debian's tools put the sources of any Java projects\
 (git clones, release archives) into one folder and mine that: scripts/mine_assertions.py --source FOLDER"
done

# The first distribution archive, without -updates and -security: they need not hold the sources.
found=$(apt-get indextargets --no-release-info --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
    awk '$1 ~ /\/(debian|ubuntu)\/$/ && $2 !~ /-/ { if (!mirror) { mirror = $1; suite = $2 }
         if ($1 == mirror && $2 == suite && $3 ~ /^(main|universe)$/ && !seen[$3]++) parts = parts " " $3 }
         END { print mirror, suite parts }')
mirror=${MIRROR:-${found%% *}}
rest=${found#* }
suite=${SUITE:-${rest%% *}}
components=${COMPONENTS:-${rest#* }}
[ -n "$mirror" ] && [ -n "$suite" ] || fail "apt knows no Debian or Ubuntu archive; set MIRROR, SUITE and COMPONENTS"
for candidate in /usr/share/keyrings/debian-archive-keyring.gpg /usr/share/keyrings/ubuntu-archive-keyring.gpg; do
    [ -n "${KEYRING:-}" ] || [ ! -f "$candidate" ] || KEYRING=$candidate
done
[ -f "${KEYRING:-}" ] || fail "no archive keyring was found; install debian-archive-keyring, or set KEYRING"

mkdir -p "$1"
output=$(cd "$1" && pwd)
private=$(mktemp -d)
trap 'rm -rf "$private"' EXIT
trap 'exit 130' INT TERM
mkdir -p "$private/lists/partial" "$private/cache/archives/partial" "$private/parts" "$private/download"
echo "deb-src [signed-by=$KEYRING] $mirror $suite $components" >"$private/sources.list"
: >"$private/status"

apt() {
    apt-get -q -o Dir::Etc::SourceList="$private/sources.list" -o Dir::Etc::SourceParts="$private/parts" \
        -o Dir::State="$private" -o Dir::State::Lists="$private/lists" -o Dir::State::status="$private/status" \
        -o Dir::Cache="$private/cache" -o APT::Sandbox::User="" -o APT::Get::List-Cleanup=0 \
        -o APT::Update::Error-Mode=any "$@"
}

apt update || fail "the package lists of $mirror could not be fetched; is there a network? MIRROR names another mirror"
for package in $packages; do
    if [ -d "$output/$package" ]; then
        echo "$package: already in $output"
        continue
    fi
    (cd "$private/download" && apt source --download-only "$package") || fail "$package could not be fetched from $mirror"
    rm -rf "$output/.$package.part"
    dpkg-source --no-check --no-copy --extract "$private/download/$package"_*.dsc "$output/.$package.part" >/dev/null
    mv "$output/.$package.part" "$output/$package"
    rm -f "$private/download/"*
done
if [ "${2:-}" = --public ]; then
    grep -v '^#' "$list" | while read -r repository commit; do
        name=${repository#*/}
        if [ -d "$output/$name" ]; then
            echo "$name: already in $output"
            continue
        fi
        rm -rf "$output/.$name.part"
        git init -q "$output/.$name.part"
        git -C "$output/.$name.part" fetch -q --depth 1 "${GIT_HOST:-https://github.com}/$repository" "$commit" ||
            fail "$repository could not be fetched at $commit; is there a network? GIT_HOST names another host"
        git -C "$output/.$name.part" checkout -q FETCH_HEAD
        mv "$output/.$name.part" "$output/$name"
        echo "$name: $commit"
    done
fi
echo "$(find "$output" -name '*.java' | wc -l) Java files in $output"
