// The control channel: the choice of its carrier, and what every message goes through on both sides.
#include "ranks/control.h"

#include <stdlib.h>

#include "ranks/control_carrier.h"
#include "ranks/control_message.h"

struct oct_control {
    oct_world *world;
    const oct_control_carrier *carrier; // NULL where one rank is all
    void *state;                        // the carrier's
    oct_control_limits limits;
    uint64_t sequence; // of the last message
};

#ifdef OCTET_HAVE_UCX
static const oct_control_carrier *const ucx = &oct_control_ucx;
#else
static const oct_control_carrier *const ucx = NULL;

void oct_control_restore_signals(void)
{
}
#endif

static oct_status open_carrier(oct_control *control, const oct_control_carrier *carrier)
{
    const oct_status status =
        carrier->open(&control->state, control->world, oct_control_message_bytes(&control->limits));
    if (status == OCT_OK)
        control->carrier = carrier;
    return status;
}

// Without a wish: UCX if it works, otherwise MPI and a word about it.
static oct_status open_any(oct_control *control)
{
    if (ucx == NULL)
        return open_carrier(control, &oct_control_mpi);
    if (open_carrier(control, ucx) == OCT_OK)
        return OCT_OK;
    const char *reason = oct_failure_text();
    oct_note("control travels by MPI, for UCX does not work: %s", reason[0] != '\0' ? reason : "not on another rank");
    oct_failure_clear();
    return open_carrier(control, &oct_control_mpi);
}

static oct_status open_path(oct_control *control, oct_control_path path)
{
    if (path == OCT_CONTROL_UCX && ucx == NULL)
        return oct_fail(OCT_ERR_MACHINE, "--control ucx: this octet was built without UCX (see octet --version); use "
                        "--control mpi, or build it where pkg-config finds ucx 1.11 or later");
    if (control->world->size == 1)
        return OCT_OK;
    if (path == OCT_CONTROL_AUTO)
        return open_any(control);
    return open_carrier(control, path == OCT_CONTROL_UCX ? ucx : &oct_control_mpi);
}

oct_status oct_control_open(oct_control **out, oct_world *world, oct_control_path path,
                            const oct_control_limits *limits)
{
    oct_control *control = calloc(1, sizeof *control);
    oct_status status = control == NULL ? oct_fail(OCT_ERR_MACHINE, "no memory for the control channel") : OCT_OK;
    status = oct_world_agree(world, status);
    if (status != OCT_OK) {
        free(control);
        return status;
    }
    control->world = world;
    control->limits = *limits;
    status = oct_world_agree(world, open_path(control, path)); // a carrier opens on all ranks or on none
    if (status != OCT_OK) {
        free(control);
        return status;
    }
    if (world->size > 1)
        oct_note("control: %s", oct_control_name(control));
    *out = control;
    return OCT_OK;
}

void oct_control_close(oct_control *control)
{
    if (control == NULL)
        return;
    if (control->carrier != NULL)
        control->carrier->close(control->state);
    free(control);
}

const char *oct_control_name(const oct_control *control)
{
    return control->carrier != NULL ? control->carrier->name : "none";
}

oct_status oct_control_send(oct_control *control, oct_control_kind kind, const void *payload, size_t bytes)
{
    if (control->carrier == NULL)
        return OCT_OK;
    uint8_t *message;
    size_t message_bytes;
    oct_status status = control->carrier->prepare(control->state, &message);
    if (status == OCT_OK)
        status = oct_control_pack(message, &message_bytes, &control->limits, ++control->sequence, kind, payload, bytes);
    return status == OCT_OK ? control->carrier->send(control->state, message_bytes) : status;
}

oct_status oct_control_receive(oct_control *control, oct_control_kind *kind, const void **payload, size_t *bytes)
{
    const uint8_t *message;
    size_t message_bytes;
    const oct_status status = control->carrier->receive(control->state, &message, &message_bytes);
    if (status != OCT_OK)
        return status;
    return oct_control_parse(message, message_bytes, &control->limits, ++control->sequence, kind, payload, bytes);
}
