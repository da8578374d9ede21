// Verifying a checkpoint: all tensor data, and HDF5's description of it.
#include <hdf5.h>
#include <stdio.h>
#include <stdlib.h>

#include "checkpoints/checkpoint_parts.h"

// Does the dataset of a matrix lie where the catalogue says, as plain bytes?
static bool agrees(hid_t dataset, const oct_tensor *tensor)
{
    uint64_t bytes = tensor->granule_bytes[tensor->spec.partition.granules];
    hid_t type = H5Dget_type(dataset), space = H5Dget_space(dataset), create = H5Dget_create_plist(dataset);
    hsize_t extent = 0;
    bool good = H5Tequal(type, H5T_STD_U8LE) > 0 && H5Sget_simple_extent_ndims(space) == 1 &&
                H5Sget_simple_extent_dims(space, &extent, NULL) == 1 && extent == bytes &&
                H5Pget_layout(create) == H5D_CONTIGUOUS && H5Dget_offset(dataset) == tensor->file_offset &&
                H5Dget_storage_size(dataset) == bytes;
    H5Pclose(create);
    H5Sclose(space);
    H5Tclose(type);
    return good;
}

static oct_status verify_datasets(const oct_checkpoint *c)
{
    oct_status status = OCT_OK;
    hid_t file = oct_hdf5_open(c->path);
    if (file < 0)
        return oct_fail(OCT_ERR_FILE, "%s is damaged or truncated: HDF5 cannot open it", c->path);
    for (int32_t i = 0; i < c->matrix_count && !status; i++) {
        char path[96];
        snprintf(path, sizeof path, "/tensors/%s", c->matrices[i].spec.name);
        hid_t dataset = H5Dopen2(file, path, H5P_DEFAULT);
        if (dataset < 0 || !agrees(dataset, &c->matrices[i]))
            status = oct_fail(OCT_ERR_FILE,
                              "%s is damaged: the dataset %s is not what the catalogue says; import the "
                              "model again",
                              c->path, path);
        if (dataset >= 0)
            H5Dclose(dataset);
    }
    H5Fclose(file);
    return status;
}

oct_status oct_checkpoint_verify(oct_checkpoint *checkpoint, int threads, oct_load_report *report)
{
    oct_status status = verify_datasets(checkpoint);
    if (status)
        return status;
    size_t count = (size_t)checkpoint->matrix_count;
    oct_load_item *items = calloc(count, sizeof *items);
    if (!items)
        return oct_fail(OCT_ERR_MACHINE, "no memory");
    for (size_t i = 0; i < count; i++)
        items[i] =
            (oct_load_item){&checkpoint->matrices[i], {0, checkpoint->matrices[i].spec.partition.granules}};
    status = oct_checkpoint_load(checkpoint, items, (int32_t)count, NULL, threads, NULL, NULL, report);
    free(items);
    return status;
}
