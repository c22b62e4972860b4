#include "server/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* Reserving pages never stops by itself short of the machine's memory. */
static bool more_than_the_machine(uint64_t bytes) {
    long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    return pages > 0 && page_bytes > 0 && bytes / (uint64_t)page_bytes >= (uint64_t)pages;
}

/* The writable mapping comes first: F_SEAL_FUTURE_WRITE refuses every later one, also through /proc. */
static enum lg_status map_and_seal(struct segment *segment, struct lg_error *error) {
    void *head = mmap(NULL, segment->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, segment->fd, 0);
    if (head == MAP_FAILED)
        return lg_fail(error, LG_NO_MEMORY, "cannot map %zu bytes for parameters: %s", segment->bytes, strerror(errno));
    segment->head = head;
    if (fcntl(segment->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) != 0)
        return lg_fail(error, LG_IO, "cannot seal a memory segment: %s", strerror(errno));
    return LG_OK;
}

enum lg_status segment_init(struct segment *segment, const char *name, uint32_t unit_count, uint64_t data_bytes,
                            struct lg_error *error) {
    enum lg_status status = LG_OK;
    *segment = (struct segment){.fd = -1};
    if (more_than_the_machine(data_bytes))
        return lg_fail(error, LG_NO_MEMORY, "%llu bytes of parameters are more than this machine has",
                       (unsigned long long)data_bytes);
    segment->bytes = (size_t)(local_data_offset(unit_count) + data_bytes);
    segment->fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (segment->fd < 0)
        return lg_fail(error, LG_NO_MEMORY, "cannot create a memory segment: %s", strerror(errno));
    int failure = posix_fallocate(segment->fd, 0, (off_t)segment->bytes);
    if (failure != 0)
        status = lg_fail(error, LG_NO_MEMORY, "cannot reserve %zu bytes for parameters: %s", segment->bytes,
                         strerror(failure));
    if (status == LG_OK)
        status = map_and_seal(segment, error);
    if (status != LG_OK) {
        segment_deinit(segment);
        return status;
    }
    local_segment_init(segment->head, unit_count, segment->bytes);
    segment->data = (float *)(void *)((char *)segment->head + local_data_offset(unit_count));
    return LG_OK;
}

void segment_deinit(struct segment *segment) {
    if (segment->head) {
        atomic_store(&segment->head->readable, 0);
        munmap(segment->head, segment->bytes);
    }
    if (segment->fd >= 0)
        close(segment->fd);
    *segment = (struct segment){.fd = -1};
}
