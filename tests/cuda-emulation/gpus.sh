# shellcheck shell=bash
# Sourced behind common.sh by checks of the whole program that run on emulated GPUs and on real ones: how many of them a
# rank sees. Emulated ones are as many as are asked for; real ones are those of the machine that CUDA_VISIBLE_DEVICES
# names, or all.
emulated=no real_gpus=()
if grep -q CUDA_EMULATION_DEVICES "$OCTET"; then
    emulated=yes
else
    count=$(nvidia-smi -L 2>/dev/null | grep -c '^GPU ')
    IFS=, read -ra real_gpus <<<"${CUDA_VISIBLE_DEVICES-$(seq -s, 0 $((count - 1)))}"
    [ ${#real_gpus[@]} -gt 0 ] || skip "no GPU: nvidia-smi lists $count, CUDA_VISIBLE_DEVICES is ${CUDA_VISIBLE_DEVICES-not set}"
fi

# has_gpus COUNT WHAT: whether there are so many; if not it says what is left out.
has_gpus() {
    if [ "$emulated" = yes ] || [ "$1" -le ${#real_gpus[@]} ]; then
        return 0
    fi
    echo "$2: left out, it needs $1 GPUs and there are ${#real_gpus[@]}"
    return 1
}

# with_gpus COUNT COMMAND…: runs the command where it sees so many GPUs.
with_gpus() {
    local count=$1 some
    shift
    if [ "$emulated" = yes ]; then
        CUDA_EMULATION_DEVICES=$count "$@"
    else
        some=$(IFS=, && echo "${real_gpus[*]:0:count}")
        CUDA_VISIBLE_DEVICES=$some "$@"
    fi
}

# without_symmetric_memory COMMAND…: runs the command where GPUs do not reach the memory of each other.
without_symmetric_memory() {
    CUDA_EMULATION_NCCL_SYMMETRIC=0 NCCL_WIN_ENABLE=0 "$@"
}

# rank_one: the process that is rank 1 of the job with OCTET_TEST_MARKER=$work: its parent, the guard, has the same
# environment.
rank_one() {
    local process parent marked of_rank=()
    # shellcheck disable=SC2154 # common.sh sets work and code
    mapfile -t marked < <(grep -lsz "^OCTET_TEST_MARKER=$work\$" /proc/[0-9]*/environ | grep -o '[0-9]*')
    for process in "${marked[@]}"; do
        grep -qsz -e '^OMPI_COMM_WORLD_RANK=1$' -e '^PMI_RANK=1$' "/proc/$process/environ" && of_rank+=("$process")
    done
    for process in "${of_rank[@]}"; do
        parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$process/status")
        [[ " ${of_rank[*]} " != *" $parent "* ]] || echo "$process"
    done
}

# rank_one_dies MODEL OPTION…: of two ranks that answer many short requests one is killed when there is an answer, and
# the job ends with the line and the code that are promised.
rank_one_dies() {
    local model=$1 job victim waited began
    shift
    jq -cn 'range(100000) | {prompt: "Once upon a time", max_tokens: 4, ignore_eos: true}' >"$work/many.jsonl"
    : >"$work/many"
    (
        export OCTET_TEST_MARKER=$work
        with_gpus 2 ranks 2 generate "$model" --prompts "$work/many.jsonl" -o "$work/many" "$@"
        # shellcheck disable=SC2154
        exit "$code"
    ) &
    job=$!
    for ((waited = 0; waited < 1200; waited++)); do
        [ -s "$work/many" ] && break
        kill -0 $job 2>/dev/null || break
        sleep 0.1
    done
    victim=$(rank_one)
    began=$SECONDS
    kill -9 "${victim:-none}" || fail "there is no rank 1 to kill"
    wait $job
    same "exit code where a rank has died" 5 $?
    [ $((SECONDS - began)) -le 20 ] || fail "the job went on for $((SECONDS - began)) s without a rank"
    grep -q '^octet: rank 1 of 2 .* was lost: signal 9' "$work/err" || fail "nobody says which rank was lost"
}
