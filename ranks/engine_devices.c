// The engine's exchange between devices: in builds with CUDA and NCCL, for backends whose device has memory of its own.
#include "ranks/engine_state.h"

#ifdef OCTET_HAVE_NCCL
#include "ranks/device_exchange.h"
#include "ranks/device_relay.h"

oct_status oct_engine_join_devices(oct_engine *engine, const oct_engine_options *options)
{
    if (engine->world->size == 1 || engine->offer.memory_bytes == 0)
        return OCT_OK;
    engine->device_exchange = &engine->own_device_exchange;
    if (options->companion != NULL) {
        engine->device_exchange = options->companion->device_exchange;
        return OCT_OK;
    }
    if (!engine->shares_devices)
        return oct_device_exchange_open(&engine->own_device_exchange, engine->world);
    oct_warn("ranks share GPUs (--share-devices): each has a part of their bandwidth, and what they exchange goes "
             "through the memory of the hosts");
    return oct_device_relay_open(&engine->own_device_exchange, engine->world);
}

void oct_engine_part_devices(oct_engine *engine)
{
    if (engine->shares_devices)
        oct_device_relay_close(&engine->own_device_exchange);
    else
        oct_device_exchange_close(&engine->own_device_exchange);
}

#else

oct_status oct_engine_join_devices(oct_engine *engine, const oct_engine_options *options)
{
    (void)engine;
    (void)options;
    return OCT_OK;
}

void oct_engine_part_devices(oct_engine *engine)
{
    (void)engine;
}

#endif
