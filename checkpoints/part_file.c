// A file under construction: lock, space, end, rename.
#include "checkpoints/part_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/statvfs.h>
#include <unistd.h>

static oct_status cannot_write(const char *part, int code)
{
    return oct_fail(OCT_ERR_FILE, "cannot write %s: %s", part, code ? strerror(code) : "HDF5 refuses");
}

oct_status oct_part_take(const char *part, int *fd)
{
    int taken = open(part, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (taken < 0)
        return cannot_write(part, errno);
    if (flock(taken, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK) {
        close(taken);
        return oct_fail(OCT_ERR_FILE, "cannot write %s: another process is writing it", part);
    }
    *fd = taken;
    return OCT_OK;
}

oct_status oct_part_reserve(const char *part, int fd, uint64_t bytes)
{
    struct statvfs about;
    int failed = fallocate(fd, 0, 0, (off_t)bytes);
    if (failed && (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL)) {
        failed = ftruncate(fd, (off_t)bytes);
        if (!failed && fstatvfs(fd, &about) == 0 && about.f_bavail * about.f_frsize < bytes) {
            errno = ENOSPC;
            failed = -1;
        }
    }
    if (!failed)
        return OCT_OK;
    return oct_fail(OCT_ERR_FILE, "cannot write %s, which needs %.1f MB: %s", part, (double)bytes * 1e-6,
                    strerror(errno));
}

// Where the closed file ends, as its superblock says (HDF5 file format specification, superblock versions 2
// and 3: the end-of-file address stands at byte 28).
static bool read_end(int fd, uint64_t *end)
{
    uint8_t head[36];
    if (pread(fd, head, sizeof head, 0) != (ssize_t)sizeof head || head[8] < 2 || head[8] > 3 || head[9] != 8)
        return false;
    memcpy(end, head + 28, sizeof *end);
    return true;
}

// Makes a rename last; best effort, because some file systems cannot sync folders.
static void sync_folder(const char *path)
{
    char *copy = strdup(path);
    int folder = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (folder >= 0) {
        fsync(folder);
        close(folder);
    }
    free(copy);
}

oct_status oct_part_finish(const char *part, int fd, const char *path, uint64_t *file_bytes)
{
    errno = 0;
    uint64_t size = 0;
    if (!read_end(fd, &size) || ftruncate(fd, (off_t)size) || fsync(fd))
        return cannot_write(part, errno);
    if (rename(part, path))
        return oct_fail(OCT_ERR_FILE, "cannot rename %s to %s: %s", part, path, strerror(errno));
    sync_folder(path);
    *file_bytes = size;
    return OCT_OK;
}
