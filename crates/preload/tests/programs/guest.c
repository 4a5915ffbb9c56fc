// What guests have of a device of the kernel's self-tests: its faults, which a program waits for, reads and answers; and memory of a
// vIOMMU, which it maps. With an argument, its machine has a keeper.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

struct id { uint32_t size, flags, id; };
struct test { uint32_t size, op, id, reserved; uint32_t operand[12]; uint32_t last, pad; };
struct hwpt { uint32_t size, flags, dev, pt, out, reserved, type, length; uint64_t data; uint32_t fault, reserved2; };
struct queue { uint32_t size, flags, id; int32_t fd; };
struct fault { uint32_t flags, dev, pasid, grpid, perm, reserved; uint64_t addr; uint32_t length, cookie; };
struct response { uint32_t cookie, code; };

struct viommu { uint32_t size, flags, type, dev, hwpt, out, length, reserved; uint64_t data; };
struct memory { uint32_t in, out; uint64_t offset, length; };

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static int ready(int fd) {
    struct pollfd entry = { fd, POLLIN | POLLOUT, 0 };
    need(poll(&entry, 1, 0) >= 0, "poll");
    return entry.revents;
}

static void map(int iommufd, uint32_t device, uint32_t ioas) {
    struct hwpt table = { .size = sizeof table, .flags = 1, .dev = device, .pt = ioas };
    need(ioctl(iommufd, 0x3b89, &table) == 0, "HWPT_ALLOC");
    struct memory memory = { .in = 0xbeef };
    struct viommu viommu = { sizeof viommu, 0, 0xdeadbeef, device, table.out, 0, sizeof memory, 0, (uintptr_t)&memory };
    need(ioctl(iommufd, 0x3b90, &viommu) == 0 && memory.out == 0xbeef, "VIOMMU_ALLOC");
    void *half = mmap(NULL, memory.length / 2, PROT_READ, MAP_SHARED, iommufd, memory.offset);
    need(half == MAP_FAILED && errno == ENXIO, "a half of it");
    volatile uint32_t *words = mmap(NULL, memory.length, PROT_READ | PROT_WRITE, MAP_SHARED, iommufd, memory.offset);
    need(words != MAP_FAILED && words[0] == 0xbeef, "mmap");
    words[2047] = 7;
    need(words[2047] == 7 && words[2046] == 0, "it is memory");
    struct id destroy = { .size = 8, .flags = viommu.out };
    need(ioctl(iommufd, 0x3b80, &destroy) == -1 && errno == EBUSY, "it is mapped");
    need(munmap((void *)words, memory.length) == 0, "munmap");
    need(ioctl(iommufd, 0x3b80, &destroy) == 0, "it is mapped no longer");
}

int main(int argc, char **argv) {
    (void)argv;
    int iommufd = open("/dev/iommu", O_RDWR), status;
    need(iommufd >= 0, "open");
    struct id ioas = { .size = 12 };
    if (argc > 1) {
        pid_t child = fork();
        if (child == 0)
            exit(ioctl(iommufd, 0x3b81, &ioas) != 0);
        need(waitpid(child, &status, 0) == child && status == 0, "a call of a child");
    }
    need(ioctl(iommufd, 0x3b81, &ioas) == 0, "IOAS_ALLOC");
    struct test device = { .size = sizeof device, .op = 2, .id = ioas.id };
    need(ioctl(iommufd, 0x3ba0, &device) == 0, "MOCK_DOMAIN");
    struct queue queue = { .size = sizeof queue };
    need(ioctl(iommufd, 0x3b8e, &queue) == 0, "FAULT_QUEUE_ALLOC");
    struct hwpt table = { .size = sizeof table, .flags = 4, .dev = device.operand[2], .pt = ioas.id, .fault = queue.id };
    need(ioctl(iommufd, 0x3b89, &table) == 0, "HWPT_ALLOC");
    struct test replace = { .size = sizeof replace, .op = 10, .id = device.operand[0], .operand = { table.out } };
    need(ioctl(iommufd, 0x3ba0, &replace) == 0, "MOCK_DOMAIN_REPLACE");

    int epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = { .events = EPOLLIN };
    need(epoll >= 0 && epoll_ctl(epoll, EPOLL_CTL_ADD, queue.fd, &event) == 0, "epoll_ctl");
    need(ready(queue.fd) == POLLOUT && epoll_wait(epoll, &event, 1, 0) == 0, "nothing is queued");
    struct test trigger = { .size = sizeof trigger, .op = 15, .operand = { device.operand[2], 0, 2, 3, 0x1000, 0 } };
    need(ioctl(iommufd, 0x3ba0, &trigger) == 0, "TRIGGER_IOPF");
    need(ready(queue.fd) == (POLLIN | POLLOUT) && epoll_wait(epoll, &event, 1, 10000) == 1, "a fault is queued");

    struct fault fault[2];
    need(read(queue.fd, fault, 41) == -1 && errno == ESPIPE, "whole faults");
    need(pread(queue.fd, fault, 40, 0) == -1 && errno == ESPIPE, "no positions");
    need(lseek(queue.fd, 0, SEEK_SET) == -1 && errno == ESPIPE, "no positions");
    char *bytes = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(bytes != MAP_FAILED && mprotect(bytes + 4096, 4096, PROT_READ) == 0, "mmap");
    need(read(queue.fd, bytes + 4096 - 39, 40) == -1 && errno == EFAULT, "no memory for the fault");
    need(ready(queue.fd) == (POLLIN | POLLOUT) && epoll_wait(epoll, &event, 1, 0) == 1, "it stays queued");
    need(read(queue.fd, bytes + 4096 - 40, 80) == 40, "memory for as many as there are");
    memcpy(fault, bytes + 4096 - 40, 40);
    need(fault->addr == 0x1000 && fault->perm == 3 && fault->dev == device.operand[2], "the fault");
    need(ready(queue.fd) == POLLOUT && epoll_wait(epoll, &event, 1, 0) == 0, "it was read");
    struct response response = { .cookie = fault->cookie };
    need(write(queue.fd, &response, sizeof response) == 8, "write");
    need(write(queue.fd, &response, sizeof response) == -1 && errno == EINVAL, "it was answered");
    map(iommufd, device.operand[2], ioas.id);
    puts("a guest was served");
    return 0;
}
