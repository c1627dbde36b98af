# What the peers' setups share; sourced in a peer's folder.

target=${CARGO_TARGET_DIR:-$(cd "$PWD/../../../.." && pwd)/target}/bench/peers
peer=$(basename "$PWD")
mkdir -p "$target/$peer"

fail() {
    echo "$peer: $*" >&2
    exit 1
}

# need COMMAND WHY: the command must be there.
need() {
    command -v "$1" >/dev/null || fail "$2"
}

# jars FOLDER: what pom.xml names, fetched by Maven.
jars() {
    need mvn "Maven (mvn) is needed to fetch the jars"
    rm -rf "$1"
    mvn -q -B -f pom.xml dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$1" \
        >"$target/$peer/mvn.log" 2>&1 || fail "Maven could not fetch the jars: see $target/$peer/mvn.log"
}
