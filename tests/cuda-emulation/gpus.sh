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
