// Forks again and again while another thread makes ioctls and reads registers, and so do the children: nobody is stuck.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct bind { uint32_t argsz, flags; int32_t iommufd; uint32_t devid; uint64_t token; };
struct alloc { uint32_t size, flags, id; };
struct destroy { uint32_t size, id; };

static int iommufd, device;
static volatile uint32_t *bar;
static atomic_int over;
static atomic_long calls;

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        _exit(1);
    }
}

static void call(void) {
    need(bar[0] == 0x010000ed, "identification");
    bar[1] = 7;
    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(iommufd, 0x3b81, &alloc) == 0, "IOAS_ALLOC");
    struct destroy destroy = {.size = sizeof destroy, .id = alloc.id};
    need(ioctl(iommufd, 0x3b80, &destroy) == 0, "DESTROY");
}

static void *hammer(void *unused) {
    while (!atomic_load(&over)) {
        call();
        atomic_fetch_add(&calls, 1);
    }
    return unused;
}

// A device has to do something in this process: it computes a factorial, on a thread of its own if it has one.
static void factorial(void) {
    bar[2] = 5;
    while (bar[8] & 1)
        sched_yield();
    need(bar[2] == 120, "factorial");
}

static void end(pid_t child, const char *how) {
    int status;
    need(child > 0 && waitpid(child, &status, 0) == child, how);
    need(WIFEXITED(status) && WEXITSTATUS(status) == 0, how);
}

int main(int argc, char **argv) {
    iommufd = open("/dev/iommu", O_RDWR);
    device = open(argv[argc - 1], O_RDWR);
    need(iommufd >= 0 && device >= 0, "open");
    struct bind bind = {.argsz = 16, .iommufd = iommufd};
    need(ioctl(device, 0x3b76, &bind) == 0, "BIND");
    bar = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    need(bar != MAP_FAILED, "mmap");
    pthread_t thread;
    need(pthread_create(&thread, NULL, hammer, NULL) == 0, "thread");
    for (int round = 0; round < 200; round++) {
        pid_t child = round % 3 == 0 ? syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0) : round % 2 ? fork() : _Fork();
        if (child == 0) {
            for (int i = 0; i < 10; i++)
                call();
            factorial();
            // A child of the child.
            if (round % 10 == 1) {
                pid_t other = fork();
                if (other == 0) {
                    factorial();
                    _exit(0);
                }
                end(other, "child of the child");
            }
            _exit(0);
        }
        end(child, "child");
        child = vfork();
        if (child == 0) {
            // What this process closes, the parent still has.
            close(device);
            close(iommufd);
            execl("/bin/true", "true", (char *)NULL);
            _exit(1);
        }
        end(child, "program");
    }
    factorial();
    long before = atomic_load(&calls);
    while (atomic_load(&calls) == before)
        sched_yield();
    atomic_store(&over, 1);
    pthread_join(thread, NULL);
    call();
    puts("all went on");
    return 0;
}
