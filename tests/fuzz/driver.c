// Runs a fuzz target without libFuzzer: the files of a folder, and mutations of them that depend on nothing
// but their number. driver MUTATIONS FOLDER
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILES_MAX = 256, GROWTH = 64 };

typedef struct input {
    uint8_t *bytes;
    size_t size;
} input;

static uint64_t state = 1;

static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static input read_file(const char *path)
{
    input in = {NULL, 0};
    FILE *file = fopen(path, "rb");
    if (!file)
        return in;
    in.bytes = malloc(1 << 20);
    in.size = in.bytes ? fread(in.bytes, 1, 1 << 20, file) : 0;
    fclose(file);
    return in;
}

// The files of a folder in the order of their names; a folder that is missing is empty.
static int read_folder(const char *folder, input inputs[FILES_MAX])
{
    char *names[FILES_MAX];
    int count = 0;
    DIR *open = opendir(folder);
    for (struct dirent *entry; open && (entry = readdir(open)) != NULL && count < FILES_MAX;)
        if (entry->d_name[0] != '.')
            names[count++] = strdup(entry->d_name);
    if (open)
        closedir(open);
    qsort(names, (size_t)count, sizeof names[0], compare);
    for (int i = 0; i < count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        inputs[i] = read_file(path);
        free(names[i]);
    }
    return count;
}

// Changes a copy [size + GROWTH] in place; returns its new size.
static size_t mutate(uint8_t *bytes, size_t size)
{
    static const uint64_t numbers[] = {0,          1,          0x7f,      0xff,      0x7fffffff,
                                       0x80000000, 0xffffffff, INT64_MAX, UINT64_MAX};
    size_t at = size ? next_random() % size : 0, length = 1 + next_random() % 16;
    switch (next_random() % 6) {
    case 0: // cut off
        return at;
    case 1: // remove a few
        length = length < size - at ? length : size - at;
        memmove(bytes + at, bytes + at + length, size - at - length);
        return size - length;
    case 2: // insert a few
        memmove(bytes + at + length, bytes + at, size - at);
        for (size_t i = 0; i < length; i++)
            bytes[at + i] = (uint8_t)next_random();
        return size + length;
    case 3: // a number that is easy to get wrong
        for (size_t i = 0, n = (size_t)1 << next_random() % 4, which = next_random() % 9;
             i < n && at + i < size; i++)
            bytes[at + i] = (uint8_t)(numbers[which] >> (8 * i));
        return size;
    default: // flip bits
        for (size_t i = 0; i < 1 + length / 8 && size; i++)
            bytes[next_random() % size] ^= (uint8_t)(1u << next_random() % 8);
        return size;
    }
}

int main(int argc, char **argv)
{
    static input inputs[FILES_MAX];
    if (argc != 3) {
        fprintf(stderr, "usage: %s MUTATIONS FOLDER\n", argv[0]);
        return 2;
    }
    int count = read_folder(argv[2], inputs);
    if (count == 0)
        inputs[count++] = (input){calloc(1, 256), 256};
    for (int i = 0; i < count; i++)
        LLVMFuzzerTestOneInput(inputs[i].bytes, inputs[i].size);
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);
    for (int i = 0; i < atoi(argv[1]); i++) {
        const input *from = &inputs[i % count];
        uint64_t rounds = 1 + next_random() % 3;
        size_t size = from->size;
        uint8_t *copy = calloc(1, size + GROWTH);
        memcpy(copy, from->bytes, size);
        while (rounds--)
            size = mutate(copy, size);
        uint8_t *exact = malloc(size ? size : 1); // its end is the end of the allocation: overruns are seen
        memcpy(exact, copy, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
        free(copy);
    }
    for (int i = 0; i < count; i++)
        free(inputs[i].bytes);
    printf("%d files and %s mutations\n", count, argv[1]);
    return 0;
}
