// The catalogue: nothing in it is believed that the model's description does not imply.
#include "checkpoints/catalogue.h"

#include <stdlib.h>
#include <string.h>

#include "checkpoints/config.h"
#include "checkpoints/layout.h"

static const char *split_name(oct_split split)
{
    return split == OCT_SPLIT_NONE ? "vector" : split == OCT_SPLIT_ROWS ? "rows" : "columns";
}

static oct_status wrong(const oct_tensor_spec *spec, const char *what, uint64_t found, uint64_t expected)
{
    return oct_fail(OCT_ERR_FILE, "the checkpoint's catalogue is damaged: %s of %s is %llu, expected %llu",
                    what, spec->name, (unsigned long long)found, (unsigned long long)expected);
}

static bool terminated(const char *text, size_t size)
{
    return memchr(text, 0, size) != NULL;
}

static oct_status check_row(const oct_catalogue_row *row, const oct_tensor_spec *spec)
{
    if (!terminated(row->name, sizeof row->name) || strcmp(row->name, spec->name))
        return oct_fail(OCT_ERR_FILE, "the checkpoint's catalogue has no tensor %s where it is expected",
                        spec->name);
    if (!terminated(row->split, sizeof row->split) || strcmp(row->split, split_name(spec->split)))
        return oct_fail(OCT_ERR_FILE, "the checkpoint's catalogue splits %s in an unexpected way",
                        spec->name);
    if (!terminated(row->source, sizeof row->source) || !terminated(row->encoding, sizeof row->encoding))
        return oct_fail(OCT_ERR_FILE, "the checkpoint's catalogue has an unterminated text at %s",
                        spec->name);
    if (row->rows != spec->rows)
        return wrong(spec, "the number of rows", (uint64_t)row->rows, (uint64_t)spec->rows);
    if (row->columns != spec->columns)
        return wrong(spec, "the number of columns", (uint64_t)row->columns, (uint64_t)spec->columns);
    if (row->granules != (uint64_t)spec->partition.granules)
        return wrong(spec, "the number of granules", row->granules, (uint64_t)spec->partition.granules);
    if (row->units != spec->partition.units || row->unit_size != spec->partition.unit_size)
        return wrong(spec, "the number of units", (uint64_t)row->units, (uint64_t)spec->partition.units);
    return OCT_OK;
}

// Sizes of the tables, and memory for what comes out of them.
static oct_status prepare(oct_checkpoint *c, const oct_blob sections[])
{
    uint64_t granules = 0, vectors = 0;
    c->specs = oct_model_tensors(&c->model, &c->spec_count);
    if (!c->specs)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the catalogue");
    for (int32_t i = 0; i < c->spec_count; i++) {
        bool vector = c->specs[i].split == OCT_SPLIT_NONE;
        granules += (uint64_t)c->specs[i].partition.granules;
        vectors += vector ? (uint64_t)c->specs[i].rows : 0;
        c->matrix_count += !vector;
    }
    const struct {
        oct_section section;
        uint64_t elements;
    } sizes[] = {{OCT_SECTION_CATALOGUE, (uint64_t)c->spec_count},
                 {OCT_SECTION_GRANULES, granules},
                 {OCT_SECTION_VECTORS, vectors}};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        uint64_t found = sections[sizes[i].section].size / oct_section_element(sizes[i].section);
        if (found != sizes[i].elements)
            return oct_fail(OCT_ERR_FILE, "the checkpoint's %s has %llu rows, its model needs %llu",
                            oct_section_path(sizes[i].section), (unsigned long long)found,
                            (unsigned long long)sizes[i].elements);
    }
    c->matrices = calloc((size_t)c->matrix_count, sizeof *c->matrices);
    c->vector_first = calloc((size_t)c->spec_count, sizeof *c->vector_first);
    c->vectors = malloc(vectors * sizeof *c->vectors);
    c->granule_bytes = calloc(granules + (size_t)c->matrix_count, sizeof *c->granule_bytes);
    c->checksums = calloc(granules, sizeof *c->checksums);
    if (!c->matrices || !c->vector_first || !c->vectors || !c->granule_bytes || !c->checksums)
        return oct_fail(OCT_ERR_MACHINE, "no memory for the catalogue");
    memcpy(c->vectors, sections[OCT_SECTION_VECTORS].bytes, vectors * sizeof *c->vectors);
    return OCT_OK;
}

// A matrix: its granules must have the sizes that encoding and partition imply, inside the file.
static oct_status read_matrix(oct_checkpoint *c, const oct_catalogue_row *row, const oct_tensor_spec *spec,
                              const oct_granule_row *granules, uint64_t *offsets, uint64_t *checksums,
                              oct_tensor *tensor)
{
    int encoding = oct_encoding_find(row->encoding);
    if (encoding < 0)
        return oct_fail(OCT_ERR_FILE, "%s has encoding \"%s\", which this program does not know", spec->name,
                        row->encoding);
    uint64_t bytes = oct_matrix_bytes(spec, (oct_encoding)encoding, offsets);
    if (row->bytes != bytes)
        return wrong(spec, "the number of bytes", row->bytes, bytes);
    if (row->file_offset > c->file_bytes || bytes > c->file_bytes - row->file_offset)
        return oct_fail(
            OCT_ERR_FILE, "the file is truncated: %s ends at byte %llu of %llu; copy or import it again",
            spec->name, (unsigned long long)(row->file_offset + bytes), (unsigned long long)c->file_bytes);
    for (int32_t g = 0; g < spec->partition.granules; g++) {
        if (granules[g].offset != offsets[g] || granules[g].bytes != offsets[g + 1] - offsets[g])
            return wrong(spec, "the place of a granule", granules[g].offset, offsets[g]);
        checksums[g] = granules[g].xxh3;
    }
    *tensor = (oct_tensor){.spec = *spec,
                           .encoding = (oct_encoding)encoding,
                           .file_offset = row->file_offset,
                           .granule_bytes = offsets,
                           .checksums = checksums};
    memcpy(tensor->source, row->source, sizeof tensor->source);
    return OCT_OK;
}

static oct_status read_tensors(oct_checkpoint *c, const oct_blob sections[])
{
    const oct_catalogue_row *rows = sections[OCT_SECTION_CATALOGUE].bytes;
    const oct_granule_row *granules = sections[OCT_SECTION_GRANULES].bytes;
    uint64_t granule = 0, vector = 0;
    int32_t matrix = 0;
    for (int32_t i = 0; i < c->spec_count; i++) {
        const oct_tensor_spec *spec = &c->specs[i];
        bool is_vector = spec->split == OCT_SPLIT_NONE;
        oct_status status = check_row(&rows[i], spec);
        if (!status && rows[i].first != (is_vector ? vector : granule))
            status = wrong(spec, "the first row", rows[i].first, is_vector ? vector : granule);
        if (!status && !is_vector)
            status = read_matrix(c, &rows[i], spec, granules + granule, c->granule_bytes + granule + matrix,
                                 c->checksums + granule, &c->matrices[matrix]);
        if (status)
            return status;
        c->vector_first[i] = vector;
        vector += is_vector ? (uint64_t)spec->rows : 0;
        granule += (uint64_t)spec->partition.granules;
        matrix += !is_vector;
    }
    return OCT_OK;
}

oct_status oct_catalogue_read(oct_checkpoint *checkpoint, const oct_blob sections[OCT_SECTION_COUNT])
{
    oct_status status =
        oct_config_read(sections, &checkpoint->model, &checkpoint->vocabulary, &checkpoint->provenance);
    if (!status)
        status = prepare(checkpoint, sections);
    return status ? status : read_tensors(checkpoint, sections);
}
