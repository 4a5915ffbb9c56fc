// Handlers of signals that come in the middle of calls: they make calls themselves, or leave by siglongjmp.
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

struct bind { uint32_t argsz, flags; int32_t iommufd; uint32_t devid; uint64_t token; };
struct alloc { uint32_t size, flags, id; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t va, length, iova; };
struct unmap { uint32_t size, ioas; uint64_t iova, length; };
struct info { uint32_t argsz, flags, regions, irqs, cap; };

static int device, iommufd, jumps, came, refused;
static sigjmp_buf back;

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void calls(int signal, siginfo_t *from, void *context) {
    struct info info = {.argsz = sizeof info};
    refused += ioctl(device, 0x3b6b, &info) != 0 || info.regions != 9;
    refused += signal != SIGALRM || from->si_signo != SIGALRM || !context;
    came++;
}

static void leaves(int signal) {
    refused += signal != SIGALRM;
    came++;
    siglongjmp(back, 1);
}

int main(void) {
    iommufd = open("/dev/iommu", O_RDWR);
    need(iommufd >= 0, "open /dev/iommu");
    device = open("/dev/vfio/devices/noiommu-vfio0", O_RDWR);
    need(device >= 0, "open the device");
    struct bind bind = {.argsz = 16, .iommufd = iommufd};
    need(ioctl(device, 0x3b76, &bind) == 0, "BIND");
    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(iommufd, 0x3b81, &alloc) == 0, "IOAS_ALLOC");
    char *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    struct sigaction action = {.sa_sigaction = calls, .sa_flags = SA_SIGINFO | SA_RESTART}, told;
    need(sigaction(SIGALRM, &action, NULL) == 0, "sigaction");
    need(sigaction(SIGALRM, NULL, &told) == 0, "sigaction");
    need(told.sa_sigaction == calls && told.sa_flags & SA_SIGINFO, "the handler that was set");
    struct itimerval often = {{0, 100}, {0, 100}}, never = {0};
    setitimer(ITIMER_REAL, &often, NULL);
    while (came < 2000) {
        struct map map = {.size = sizeof map, .flags = 7, .ioas = alloc.id, .va = (uintptr_t)memory, .length = 4096, .iova = 0x10000};
        need(ioctl(iommufd, 0x3b85, &map) == 0, "IOAS_MAP");
        struct unmap unmap = {.size = sizeof unmap, .ioas = alloc.id, .iova = 0x10000, .length = 4096};
        need(ioctl(iommufd, 0x3b86, &unmap) == 0, "IOAS_UNMAP");
    }
    setitimer(ITIMER_REAL, &never, NULL);
    need(refused == 0, "calls of the handler");

    need(signal(SIGALRM, leaves) == (void (*)(int))(void *)calls, "the handler before");
    need(sigaction(SIGALRM, NULL, &told) == 0 && told.sa_handler == leaves && !(told.sa_flags & SA_SIGINFO), "the handler that was set");
    came = 0;
    while (came < 2000) {
        if (sigsetjmp(back, 1)) {
            jumps++;
            continue;
        }
        struct itimerval once = {{0, 0}, {0, 50 + came % 50}};
        setitimer(ITIMER_REAL, &once, NULL);
        struct unmap all = {.size = sizeof all, .ioas = alloc.id, .length = ~0ull};
        for (;;) {
            struct map map = {.size = sizeof map, .flags = 7, .ioas = alloc.id, .va = (uintptr_t)memory, .length = 4096, .iova = 0x10000};
            ioctl(iommufd, 0x3b85, &map);
            ioctl(iommufd, 0x3b86, &all);
        }
    }
    need(jumps == came && refused == 0, "jumps");
    struct unmap all = {.size = sizeof all, .ioas = alloc.id, .length = ~0ull};
    ioctl(iommufd, 0x3b86, &all);
    struct info info = {.argsz = sizeof info};
    need(ioctl(device, 0x3b6b, &info) == 0, "GET_INFO");
    printf("handled\n");
}
