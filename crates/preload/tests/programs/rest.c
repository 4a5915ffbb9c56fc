// Registers as memory that is moved, locked and advised about; vectors with flags; descriptors that arrive in messages; waiting.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct bind { uint32_t argsz, flags; int32_t iommufd; uint32_t devid; uint64_t token; };
struct alloc { uint32_t size, flags, id; };

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void memory(int device) {
    char *bar = mmap(NULL, 0x3000, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    need(bar != MAP_FAILED, "mmap");
    need(mlock(bar, 0x3000) == 0 && munlock(bar, 0x3000) == 0, "mlock");
    need(madvise(bar, 0x3000, MADV_DONTNEED) == -1 && errno == EINVAL, "madvise");
    need(madvise(bar, 0x3000, MADV_DONTFORK) == 0, "madvise");
    need(mremap(bar, 0x3000, 0x4000, MREMAP_MAYMOVE) == MAP_FAILED && errno == EFAULT, "registers do not grow");
    need(mremap(bar, 0x3000, 0x2000, 0) == bar, "they shrink");
    char *place = mmap(NULL, 0x2000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    char *moved = mremap(bar, 0x2000, 0x2000, MREMAP_MAYMOVE | MREMAP_FIXED, place);
    need(moved == place, "mremap");
    need(*(volatile uint32_t *)moved == 0x010000ed, "registers elsewhere");
    // What is mapped where they were is memory.
    char *plain = mmap(bar, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    need(plain == bar && *(volatile uint32_t *)plain == 0, "memory where they were");
    munmap(moved, 0x2000);
}

static void vectors(int device) {
    uint16_t vendor = 0, number = 0;
    struct iovec both[] = {{&vendor, 2}, {&number, 2}};
    need(preadv2(device, both, 2, 7ll << 40, 0) == 4 && vendor == 0x1234 && number == 0x11e8, "preadv2");
    need(preadv2(device, both, 2, 7ll << 40, RWF_NOWAIT) == -1 && errno == EOPNOTSUPP, "flags");
    uint16_t command = 2;
    struct iovec one = {&command, 2};
    need(pwritev2(device, &one, 1, (7ll << 40) + 4, 0) == 2, "pwritev2");
    command = 0;
    need(pread(device, &command, 2, (7ll << 40) + 4) == 2 && command & 2, "what was written");
}

static void message(int iommufd) {
    int pair[2];
    need(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "socketpair");
    char byte = 'x', control[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &iommufd, sizeof(int));
    need(sendmsg(pair[0], &message, 0) == 1, "sendmsg");
    memset(control, 0, sizeof control);
    need(recvmsg(pair[1], &message, 0) == 1, "recvmsg");
    int arrived;
    memcpy(&arrived, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
    // Before any ioctl on it: a seek tells what the descriptor is.
    need(arrived != iommufd && lseek(arrived, 0, SEEK_SET) == -1 && errno == ESPIPE, "what arrived");
    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(arrived, 0x3b81, &alloc) == 0, "IOAS_ALLOC");
    close(arrived);
}

static long elapsed(struct timespec from) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (now.tv_sec - from.tv_sec) * 1000 + (now.tv_nsec - from.tv_nsec) / 1000000;
}

static void waits(void) {
    int event = eventfd(0, 0), epoll = epoll_create1(0);
    struct epoll_event wanted = {.events = EPOLLIN, .data.fd = event};
    need(epoll_ctl(epoll, EPOLL_CTL_ADD, event, &wanted) == 0, "epoll_ctl");
    // Nothing comes, and no wait is over too early.
    struct timespec begin;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    struct pollfd entry = {.fd = event, .events = POLLIN};
    need(poll(&entry, 1, 30) == 0, "poll");
    struct timespec time = {.tv_nsec = 30000000};
    need(ppoll(&entry, 1, &time, NULL) == 0, "ppoll");
    fd_set set;
    FD_ZERO(&set);
    FD_SET(event, &set);
    struct timeval timeval = {.tv_usec = 30000};
    need(select(event + 1, &set, NULL, NULL, &timeval) == 0 && !FD_ISSET(event, &set) && timeval.tv_usec == 0, "select");
    need(epoll_wait(epoll, &wanted, 1, 30) == 0, "epoll_wait");
    need(elapsed(begin) >= 119, "waits of 120 ms");
    uint64_t one = 1;
    need(write(event, &one, 8) == 8, "write");
    need(poll(&entry, 1, -1) == 1 && entry.revents == POLLIN, "poll without end");
    FD_SET(event, &set);
    need(select(event + 1, &set, NULL, NULL, NULL) == 1 && FD_ISSET(event, &set), "select without end");
    need(epoll_wait(epoll, &wanted, 1, -1) == 1 && wanted.data.fd == event, "epoll_wait without end");
    time.tv_nsec = 1000000000;
    need(ppoll(&entry, 1, &time, NULL) == -1 && errno == EINVAL, "no time");
}

int main(int argc, char **argv) {
    int iommufd = open("/dev/iommu", O_RDWR), device = open(argv[argc - 1], O_RDWR);
    need(iommufd >= 0 && device >= 0, "open");
    struct bind bind = {.argsz = 16, .iommufd = iommufd};
    need(ioctl(device, 0x3b76, &bind) == 0, "BIND");
    memory(device);
    vectors(device);
    message(iommufd);
    waits();
    struct pollfd entry = {.fd = device, .events = POLLIN | POLLOUT};
    need(poll(&entry, 1, 0) == 1 && entry.revents == (POLLIN | POLLOUT), "a device is always ready");
    need(inotify_add_watch(inotify_init1(0), "/dev/vfio/devices", IN_CREATE) > 0, "inotify");
    puts("and the rest");
    return 0;
}
