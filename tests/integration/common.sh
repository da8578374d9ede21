# shellcheck shell=bash
# Sourced by checks that look at what `octet` says: a work folder, and assertions that count failures.
# shellcheck source-path=SCRIPTDIR source=launcher.sh
. "$(dirname "${BASH_SOURCE[0]}")/launcher.sh"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failures=0

fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# same WHAT EXPECTED FOUND
same() {
    [ "$2" = "$3" ] && return 0
    fail "$1: expected \"$2\", found \"$3\""
    return 1
}

# octet ARGUMENT…: runs the program; its exit code is in `code`, what it wrote in $work/out and $work/err.
octet() {
    "$OCTET" "$@" >"$work/out" 2>"$work/err"
    code=$?
}

# ranks NP ARGUMENT…: the same with NP ranks.
ranks() {
    local count=$1
    shift
    run_ranks "$count" "$OCTET" "$@" >"$work/out" 2>"$work/err" </dev/null
    code=$?
}

# works WHAT: the last run ended with 0.
works() {
    [ "$code" -eq 0 ] && return 0
    fail "$1: exit code $code, expected 0"
    head -c 2000 "$work/err" | sed 's/^/    /'
    return 1
}

# refused WHAT CODE PATTERN: the last run ended with the code and exactly one message, which has the pattern, and
# nothing on stdout.
refused() {
    local what=$1 expected=$2 pattern=$3 messages
    messages=$(grep -c '^octet: ' "$work/err")
    if [ "$code" -eq "$expected" ] && [ "$messages" -eq 1 ] && grep -q -- "^octet: .*$pattern" "$work/err" &&
        [ ! -s "$work/out" ]; then
        return 0
    fi
    fail "$what: exit code $code, expected $expected, one message with \"$pattern\" and no output; found"
    head -c 2000 "$work/err" | sed 's/^/    stderr: /'
    head -c 500 "$work/out" | sed 's/^/    stdout: /'
    return 1
}

finish() {
    [ "$failures" -eq 0 ] || { echo "$failures failures"; exit 1; }
    exit 0
}
