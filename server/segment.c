#include "server/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Reserving pages never stops by itself short of the machine's memory. */
static bool more_than_the_machine(size_t bytes) {
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 && bytes / (size_t)page_bytes >= (size_t)pages;
}

enum lg_status segment_init(struct segment *segment, const char *name, size_t bytes, struct lg_error *error) {
    enum lg_status status = LG_OK;
    *segment = (struct segment){.fd = -1, .bytes = bytes};
    if (bytes == 0)
        return LG_OK;
    if (more_than_the_machine(bytes))
        return lg_fail(error, LG_NO_MEMORY, "%zu bytes of parameters are more than this machine has", bytes);
    segment->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (segment->fd < 0)
        return lg_fail(error, LG_NO_MEMORY, "cannot create a memory segment: %s", strerror(errno));
    int failure = posix_fallocate(segment->fd, 0, (off_t)bytes);
    if (failure != 0) {
        status = lg_fail(error, LG_NO_MEMORY, "cannot reserve %zu bytes for parameters: %s", bytes, strerror(failure));
        goto out;
    }
    if (fcntl(segment->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
        status = lg_fail(error, LG_IO, "cannot seal a memory segment: %s", strerror(errno));
        goto out;
    }
    void *data = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd, 0);
    if (data == MAP_FAILED) {
        status = lg_fail(error, LG_NO_MEMORY, "cannot map %zu bytes for parameters: %s", bytes, strerror(errno));
        goto out;
    }
    segment->data = data;
out:
    if (status != LG_OK)
        segment_deinit(segment);
    return status;
}

void segment_deinit(struct segment *segment) {
    if (segment->data)
        munmap(segment->data, segment->bytes);
    if (segment->fd >= 0)
        close(segment->fd);
    *segment = (struct segment){.fd = -1};
}
