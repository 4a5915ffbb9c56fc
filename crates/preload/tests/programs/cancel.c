// A thread that waits is cancelled in each function that is a cancellation point, and one that is cancelled at any time leaves no lock behind.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct alloc { uint32_t size, flags, id; };
struct destroy { uint32_t size, id; };

static int pipes[2], pair[2], epoll_fd, iommufd, cleaned;
static char fifo[] = "/tmp/ioasis-cancel-XXXXXX";

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void clean(void *unused) {
    (void)unused;
    cleaned++;
}

static void in_read(void) { char byte; need(read(pipes[0], &byte, 1) > 0, "read"); }
static void in_readv(void) { char byte; struct iovec it = {&byte, 1}; need(readv(pipes[0], &it, 1) > 0, "readv"); }
static void in_poll(void) { struct pollfd it = {pipes[0], POLLIN, 0}; poll(&it, 1, -1); }
static void in_ppoll(void) { struct pollfd it = {pipes[0], POLLIN, 0}; ppoll(&it, 1, NULL, NULL); }
static void in_select(void) { fd_set it; FD_ZERO(&it); FD_SET(pipes[0], &it); select(pipes[0] + 1, &it, NULL, NULL, NULL); }
static void in_pselect(void) { fd_set it; FD_ZERO(&it); FD_SET(pipes[0], &it); pselect(pipes[0] + 1, &it, NULL, NULL, NULL, NULL); }
static void in_epoll(void) { struct epoll_event it; epoll_wait(epoll_fd, &it, 1, -1); }
static void in_recvmsg(void) { char byte; struct iovec it = {&byte, 1}; struct msghdr message = {.msg_iov = &it, .msg_iovlen = 1}; recvmsg(pair[0], &message, 0); }
static void in_open(void) { open(fifo, O_RDONLY); }
static void in_write(void) { static char block[1 << 20]; for (;;) need(write(pipes[1], block, sizeof block) > 0, "write"); }

static void calls(void) {
    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(iommufd, 0x3b81, &alloc) == 0, "IOAS_ALLOC");
    struct destroy destroy = {.size = sizeof destroy, .id = alloc.id};
    need(ioctl(iommufd, 0x3b80, &destroy) == 0, "DESTROY");
}

static void in_calls(void) {
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (;;)
        calls();
}

static void *work(void *wait) {
    pthread_cleanup_push(clean, NULL);
    ((void (*)(void))wait)();
    pthread_cleanup_pop(0);
    return NULL;
}

static void cancelled(void (*wait)(void), useconds_t after) {
    pthread_t thread;
    void *result;
    cleaned = 0;
    need(pthread_create(&thread, NULL, work, (void *)wait) == 0, "a thread");
    usleep(after);
    pthread_cancel(thread);
    pthread_join(thread, &result);
    need(result == PTHREAD_CANCELED && cleaned == 1, "cancelled");
}

int main(void) {
    iommufd = open("/dev/iommu", O_RDWR);
    need(iommufd >= 0 && pipe(pipes) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0, "descriptors");
    epoll_fd = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {0}};
    need(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, pipes[0], &event) == 0, "epoll_ctl");
    close(mkstemp(fifo));
    unlink(fifo);
    need(mkfifo(fifo, 0600) == 0, "mkfifo");
    void (*each[])(void) = {in_read, in_readv, in_poll, in_ppoll, in_select, in_pselect, in_epoll, in_recvmsg, in_open, in_write};
    for (unsigned at = 0; at < sizeof each / sizeof *each; at++)
        cancelled(each[at], 20000);
    unlink(fifo);
    for (unsigned at = 0; at < 300; at++) {
        cancelled(in_calls, 200 + at);
        calls();
    }
    printf("cancelled\n");
}
