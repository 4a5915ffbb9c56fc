// Threads are cancelled at any instruction of calls on the machine and on the host. None leaves a lock behind.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ATTRIBUTE "/sys/module/iommufd/parameters/allow_unsafe_interrupts"

static int iommufd, attribute, zero, cleaned;

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void of_machine(void) { char bytes[8]; need(pread(attribute, bytes, 8, 0) == 2, "pread"); }
static void of_host(void) { char bytes[8]; need(read(zero, bytes, 8) == 8, "read"); }
static void on_path(void) { need(access(ATTRIBUTE, R_OK) == 0, "access"); }
static void on_path_of_host(void) { struct stat seen; need(stat("/dev/zero", &seen) == 0, "stat"); }
static void on_nothing(void) { need(open("/tmp/ioasis-nothing", O_RDONLY) == -1 && errno == ENOENT, "open"); }
static void to_wait(void) { struct pollfd it = {zero, POLLIN, 0}; need(poll(&it, 1, 0) == 1, "poll"); }
static void to_select(void) { fd_set it; FD_ZERO(&it); FD_SET(zero, &it); struct timeval none = {0, 0}; need(select(zero + 1, &it, NULL, NULL, &none) == 1, "select"); }
static void to_map(void) { void *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); need(page != MAP_FAILED && munmap(page, 4096) == 0, "mmap"); }
static void to_move(void) { need(lseek(attribute, 0, SEEK_SET) == 0, "lseek"); }
static void to_ask(void) { uint32_t option[6] = {24, 0, 1}; need(ioctl(iommufd, 0x3b87, option) == 0, "IOMMU_OPTION"); }

static void clean(void *unused) {
    (void)unused;
    cleaned++;
}

static void *work(void *call) {
    pthread_cleanup_push(clean, NULL);
    pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, NULL);
    for (;;)
        ((void (*)(void))call)();
    pthread_cleanup_pop(0);
    return NULL;
}

int main(void) {
    iommufd = open("/dev/iommu", O_RDWR);
    attribute = open(ATTRIBUTE, O_RDONLY);
    zero = open("/dev/zero", O_RDONLY);
    need(iommufd >= 0 && attribute >= 0 && zero >= 0, "files");
    void (*all[])(void) = {of_machine, of_host, on_path, on_path_of_host, on_nothing, to_wait, to_select, to_map, to_move, to_ask};
    for (unsigned call = 0; call < sizeof all / sizeof *all; call++) {
        for (unsigned at = 0; at < 1500; at++) {
            pthread_t thread;
            void *result;
            int before = cleaned;
            struct timespec after = {0, 1000 + 37 * at % 20000};
            need(pthread_create(&thread, NULL, work, (void *)all[call]) == 0, "a thread");
            nanosleep(&after, NULL);
            pthread_cancel(thread);
            pthread_join(thread, &result);
            need(result == PTHREAD_CANCELED && cleaned - before <= 1, "cancelled");
        }
        // What a thread has left behind would keep these waiting.
        of_machine();
        to_ask();
        pid_t child = fork();
        if (child == 0)
            _exit(0);
        int status;
        need(waitpid(child, &status, 0) == child && status == 0, "a fork");
    }
    printf("cancelled\n");
}
