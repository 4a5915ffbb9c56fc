// A ring that was set up before the first node was opened does not pretend to write to the machine's files.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static struct io_uring_params params;
static char *ring;
static struct io_uring_sqe *entries;
static int ring_fd;

static unsigned *at(unsigned offset) {
    return (unsigned *)(ring + offset);
}

// Has the kernel do one thing, and answers what it came to.
static int done(int operation, int file, void *memory, unsigned length, uint64_t offset) {
    unsigned tail = *at(params.sq_off.tail), slot = tail & *at(params.sq_off.ring_mask);
    entries[slot] = (struct io_uring_sqe){.opcode = operation, .fd = file, .addr = (uint64_t)memory, .len = length, .off = offset};
    at(params.sq_off.array)[slot] = slot;
    __atomic_store_n(at(params.sq_off.tail), tail + 1, __ATOMIC_RELEASE);
    need(syscall(SYS_io_uring_enter, ring_fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) == 1, "io_uring_enter");
    unsigned head = *at(params.cq_off.head);
    struct io_uring_cqe *answers = (void *)at(params.cq_off.cqes);
    int answer = answers[head & *at(params.cq_off.ring_mask)].res;
    __atomic_store_n(at(params.cq_off.head), head + 1, __ATOMIC_RELEASE);
    return answer;
}

int main(int argc, char **argv) {
    ring_fd = syscall(SYS_io_uring_setup, 4, &params);
    need(ring_fd >= 0, "io_uring_setup");
    need(params.features & IORING_FEAT_SINGLE_MMAP, "one mapping");
    size_t size = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
    ring = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQ_RING);
    entries = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring_fd, IORING_OFF_SQES);
    need(ring != MAP_FAILED && entries != MAP_FAILED, "mmap");
    char bytes[8] = "0123456";
    int host = memfd_create("host", 0);
    need(done(IORING_OP_WRITE, host, bytes, 8, 0) == 8, "a write to the host's file");
    const char *files[] = {"/dev/iommu", "/dev/vfio/devices/noiommu-vfio0", "/sys/bus/pci/devices/0000:42:00.0/config"};
    for (int file = 0; file < 3; file++) {
        int opened = open(files[file], O_RDWR);
        need(opened >= 0, files[file]);
        struct stat before, after;
        need(fstat(opened, &before) == 0, "fstat");
        need(done(IORING_OP_WRITE, opened, bytes, 8, 0) == -EPERM, "a write to the machine's file");
        need(done(IORING_OP_WRITE, opened, bytes, 8, 4096) == -EPERM, "a write further on");
        need(done(IORING_OP_READ, opened, bytes, 8, 0) == 0, "a read");
        need(fstat(opened, &after) == 0 && before.st_size == after.st_size, "fstat");
        close(opened);
    }
    need(done(IORING_OP_READ, host, bytes, 8, 0) == 8, "a read from the host's file");
    need(syscall(SYS_io_uring_setup, 4, &params) == -1 && errno == ENOSYS, "a second ring");
    printf("not written\n");
}
