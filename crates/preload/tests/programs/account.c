// Pinned memory as the kernel tells it of a process, following the one that it is charged to; capabilities that are dropped; memory that processes share.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct alloc { uint32_t size, flags, id; };
struct option { uint32_t size, id; uint16_t op, reserved; uint32_t object; uint64_t value; };
struct map_file { uint32_t size, flags, ioas; int32_t fd; uint64_t start, length, iova; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t va, length, iova; };
struct change { uint32_t size, reserved; };
struct test { uint32_t size, op, id, reserved; uint64_t operand[6]; uint32_t last, pad; };
struct header { uint32_t version; int pid; };
struct sets { uint32_t effective, permitted, inheritable; };

#define CAP_SYS_RESOURCE 24

int capset(struct header *header, const struct sets *sets);

#define need(ok) needed((ok) != 0, #ok, __LINE__)
static void needed(int ok, const char *what, int line) {
    if (!ok) {
        fprintf(stderr, "process %d, line %d: %s: %s\n", getpid(), line, what, strerror(errno));
        _exit(1);
    }
}

static long pinned(pid_t process) {
    char path[64], line[128];
    long kib = -1;
    snprintf(path, sizeof path, "/proc/%d/status", process);
    FILE *file = fopen(path, "r");
    need(file);
    while (fgets(line, sizeof line, file))
        if (sscanf(line, "VmPin: %ld kB", &kib) == 1)
            break;
    fclose(file);
    return kib;
}

// Takes a capability out of effect; whether the process had it.
static int drop(int capability) {
    struct header header = {.version = 0x20080522};
    struct sets sets[2];
    need(syscall(SYS_capget, &header, sets) == 0);
    uint32_t bit = 1u << capability;
    if (!(sets[0].effective & bit))
        return 0;
    sets[0].effective &= ~bit;
    need(capset(&header, sets) == 0);
    return 1;
}

int main(void) {
    int iommufd = open("/dev/iommu", O_RDWR);
    need(iommufd >= 0);
    struct option option = {.size = sizeof option, .op = 0, .value = 1};
    need(ioctl(iommufd, 0x3b87, &option) == 0);
    if (drop(CAP_SYS_RESOURCE))
        need(ioctl(iommufd, 0x3b87, &option) == -1 && errno == EPERM);

    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(iommufd, 0x3b81, &alloc) == 0);
    struct test mock = {.size = sizeof mock, .op = 2, .id = alloc.id};
    need(ioctl(iommufd, 0x3ba0, &mock) == 0);
    char *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(shared != MAP_FAILED);
    int memory = memfd_create("memory", 0);
    need(memory >= 0 && ftruncate(memory, 8192) == 0);
    struct map_file map = {.size = sizeof map, .flags = 6, .ioas = alloc.id, .fd = memory, .length = 8192};
    need(pinned(getpid()) == 0);
    need(ioctl(iommufd, 0x3b8f, &map) == 0);
    need(pinned(getpid()) == 8);

    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        struct change change = {.size = sizeof change};
        need(pinned(parent) == 8 && pinned(getpid()) == 0);
        need(ioctl(iommufd, 0x3b92, &change) == 0);
        need(pinned(parent) == 0 && pinned(getpid()) == 8);
        _exit(0);
    }
    int status;
    need(waitpid(child, &status, 0) == child && status == 0);
    need(pinned(getpid()) == 0);

    // Memory that both share stays the same memory when the child has ended that mapped it.
    strcpy(shared, "before");
    if ((child = fork()) == 0) {
        struct map map = {.size = sizeof map, .flags = 7, .ioas = alloc.id, .va = (uintptr_t)shared, .length = 4096, .iova = 1 << 30};
        need(ioctl(iommufd, 0x3b85, &map) == 0);
        _exit(0);
    }
    need(waitpid(child, &status, 0) == child && status == 0);
    strcpy(shared, "after!");
    struct test access = {.size = sizeof access, .op = 5, .id = alloc.id};
    need(ioctl(iommufd, 0x3ba0, &access) == 0);
    char copy[8] = "";
    struct test read = {.size = sizeof read, .op = 8, .id = (uint32_t)access.operand[0], .operand = {1 << 30, 7, (uintptr_t)copy}};
    need(ioctl(iommufd, 0x3ba0, &read) == 0);
    need(strcmp(copy, "after!") == 0);
    puts("accounted");
    return 0;
}
