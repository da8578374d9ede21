# Shell functions that the benchmarks against llama.cpp share; to be sourced by bash after launch/functions.sh.
# shellcheck shell=bash disable=SC2034,SC2154
bench_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
llama_version=0.3.36
gguf_version=0.19.0
llama_folder=$cache_dir/llama-cpp-python-$llama_version

# prepare_llama: sets `python` to a virtual environment's with gguf and llama-cpp-python, which is compiled for this
# processor at the first call.
prepare_llama() {
    local base
    python=$llama_folder/bin/python
    if "$python" -c 'import llama_cpp, gguf' 2>/dev/null; then
        return
    fi
    base=$(python_with venv) || die "no python3 with venv (Debian: python3-venv)"
    say "building llama-cpp-python $llama_version (some minutes, once) in $llama_folder"
    "$python" -c '' 2>/dev/null || "$base" -m venv --clear "$llama_folder"
    CMAKE_ARGS="-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON" CMAKE_BUILD_PARALLEL_LEVEL=$(nproc) "$python" -m pip \
        --disable-pip-version-check install -q --no-binary llama-cpp-python "llama-cpp-python==$llama_version" \
        "gguf==$gguf_version" >"$llama_folder/build.log" 2>&1 ||
        { tail -n 20 "$llama_folder/build.log" >&2; die "llama-cpp-python did not build"; }
}

# find_model NAME: the path of a GGUF file on stdout. NAME is "" (SmolLM2), SHAPE:TYPE (made at the first call,
# see make-synthetic-gguf) or a path.
find_model() {
    local path
    case $1 in
    '') fetch_smollm2 || die "the model cannot be had; name a GGUF file" ;;
    llama-*:*)
        path=$cache_dir/${1/:/.}.gguf
        if [ ! -e "$path" ]; then
            say "writing $path"
            "$python" "$bench_dir/make-synthetic-gguf" "${1%%:*}" "${1#*:}" "$path" || exit 1
        fi
        echo "$path"
        ;;
    *)
        [ -r "$1" ] || { say "error: $1 is not there or cannot be read"; exit 3; }
        echo "$1"
        ;;
    esac
}

# import_model GGUF: the path of its checkpoint on stdout, imported where the program or the GGUF file is newer.
import_model() {
    local place checkpoint
    place=$(realpath "$1" | cksum | cut -d ' ' -f 1) # files in two folders may have one name
    checkpoint=$cache_dir/compared.$(basename "$1" .gguf).$place.h5
    if [ ! "$checkpoint" -nt "$1" ] || [ ! "$checkpoint" -nt "$octet" ]; then
        "$octet" import "$1" -o "$checkpoint" >&2 || exit 1
    fi
    echo "$checkpoint"
}

# prepare_octet: sets `octet` (built where it was not named) and `launcher`.
prepare_octet() {
    if [ -z "$octet" ]; then
        build_folder release release -DOCTET_TESTS=OFF || exit 1
        octet=$source_dir/build/release/octet
    fi
    use_launcher "$(dirname "$octet")"
}

# busy_percent: share of the processors that other programs used in the last moment.
busy_percent() {
    local before after
    before=$(head -n 1 /proc/stat)
    sleep 0.5
    after=$(head -n 1 /proc/stat)
    awk -v a="$before" -v b="$after" 'BEGIN {
        n = split(a, x, " "); split(b, y, " ")
        for (i = 2; i <= n && i <= 9; i++) total += y[i] - x[i]
        idle = y[5] - x[5] + y[6] - x[6]
        printf "%d\n", (total > 0 ? 100 * (total - idle) / total : 100) }'
}

# wait_for_quiet: waits up to `patience` seconds until nothing else runs; sets mark to "*" if that was in vain.
# Programs that spin at barriers lose far more to company than programs that yield, so such a round says little.
wait_for_quiet() {
    local until=$((SECONDS + patience))
    while [ "$(busy_percent)" -gt 10 ]; do
        if [ "$SECONDS" -ge "$until" ]; then
            mark='*'
            return
        fi
    done
}

# processor_seconds: "OTHERS ALL" in seconds so far, from /proc/stat and this script's own $work/times: what others
# used of the processors (the host's other guests too, where it says so), and all there was.
processor_seconds() {
    awk -v hz="$(getconf CLK_TCK)" '
        function seconds(text) { split(text, part, /[ms]/); return 60 * part[1] + part[2] }
        FILENAME == "/proc/stat" {
            for (i = 2; i <= 9; i++) all += $i
            busy = all - $5 - $6
            nextfile
        }
        FNR == 2 { own = seconds($1) + seconds($2) }
        END { print busy / hz - own, all / hz }' /proc/stat "$work/times"
}

# undisturbed COMMAND…: runs it when the machine is quiet; sets mark to "*" if others used more than a tenth of the
# processors meanwhile. A function's own programs count as others only if it does not wait for them.
undisturbed() {
    local before after
    wait_for_quiet
    times >"$work/times"
    before=$(processor_seconds)
    "$@"
    times >"$work/times"
    after=$(processor_seconds)
    awk -v a="$before" -v b="$after" 'BEGIN {
        split(a, x, " "); split(b, y, " ")
        exit y[1] - x[1] > 0.1 * (y[2] - x[2]) }' || mark='*'
}
