// Parent and child have one machine: what lives behind a descriptor that was opened before the fork is the same for both.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct bind { uint32_t argsz, flags; int32_t iommufd; uint32_t devid; uint64_t token; };
struct attach { uint32_t argsz, flags, pt_id, pasid; };
struct alloc { uint32_t size, flags, id; };
struct destroy { uint32_t size, id; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t va, length, iova; };
struct unmap { uint32_t size, ioas; uint64_t iova, length; };
struct get_pa { uint32_t size, flags, ioas, reserved; uint64_t iova, length, phys; };
struct irqs { uint32_t argsz, flags, index, start, count; int32_t event; };

static const char *node;
static int iommufd, device;
static uint32_t ioas;
static volatile uint8_t *bar;

#define need(ok) needed((ok) != 0, #ok, __LINE__)
static void needed(int ok, const char *what, int line) {
    if (!ok) {
        fprintf(stderr, "process %d, line %d: %s: %s\n", getpid(), line, what, strerror(errno));
        _exit(1);
    }
}

static void open_all(void) {
    need((iommufd = open("/dev/iommu", O_RDWR)) >= 0);
    need((device = open(node, O_RDWR)) >= 0);
    struct bind bind = {.argsz = 16, .iommufd = iommufd};
    need(ioctl(device, 0x3b76, &bind) == 0);
    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(iommufd, 0x3b81, &alloc) == 0);
    ioas = alloc.id;
    struct attach attach = {.argsz = 12, .pt_id = ioas};
    need(ioctl(device, 0x3b77, &attach) == 0);
    uint16_t command;
    need(pread(device, &command, 2, (7ull << 40) + 4) == 2);
    command |= 6;
    need(pwrite(device, &command, 2, (7ull << 40) + 4) == 2);
    bar = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    need(bar != MAP_FAILED);
}

static void close_all(void) {
    need(munmap((void *)bar, 0x1000) == 0 && close(device) == 0 && close(iommufd) == 0);
}

static char *memory(int flags) {
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
    need(pages != MAP_FAILED);
    return pages;
}

static int map(char *va, uint64_t iova) {
    struct map map = {.size = sizeof map, .flags = 7, .ioas = ioas, .va = (uintptr_t)va, .length = 8192, .iova = iova};
    return ioctl(iommufd, 0x3b85, &map);
}

static int unmap(uint64_t iova) {
    struct unmap unmap = {.size = sizeof unmap, .ioas = ioas, .iova = iova, .length = 8192};
    return ioctl(iommufd, 0x3b86, &unmap);
}

static int get_pa(uint64_t iova, uint64_t *address) {
    struct get_pa get_pa = {.size = sizeof get_pa, .ioas = ioas, .iova = iova, .length = 4096};
    int answer = ioctl(iommufd, 0x3b95, &get_pa);
    *address = answer == 0 ? get_pa.phys : iova;
    // Behind an IOMMU there is none to be had.
    return answer == 0 || errno != ENOENT ? 0 : -1;
}

static void copy(uint64_t from, uint64_t to, int direction) {
    *(volatile uint64_t *)(bar + 0x80) = from;
    *(volatile uint64_t *)(bar + 0x88) = to;
    *(volatile uint64_t *)(bar + 0x90) = 64;
    *(volatile uint32_t *)(bar + 0x98) = 1 | direction << 1;
    while (*(volatile uint32_t *)(bar + 0x98) & 1)
        sched_yield();
}

static uint64_t address(uint64_t iova) {
    uint64_t address;
    need(get_pa(iova, &address) == 0);
    return address;
}

static pid_t child(void (*run)(void *), void *with) {
    pid_t pid = fork();
    need(pid >= 0);
    if (pid == 0) {
        run(with);
        _exit(0);
    }
    return pid;
}

static void ended(pid_t pid) {
    int status;
    need(waitpid(pid, &status, 0) == pid);
    need(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// --- one context

static void child_maps(void *pages) {
    strcpy(pages, "of the child");
    need(map(pages, 0x10000) == 0);
    uint32_t value = *(volatile uint32_t *)(bar + 4);
    need(value == ~0x11111111u);
    *(volatile uint32_t *)(bar + 4) = 0x22222222;
}

static void context(void) {
    open_all();
    *(volatile uint32_t *)(bar + 4) = 0x11111111;
    char *pages = memory(MAP_SHARED);
    pid_t pid = child(child_maps, pages);
    ended(pid);
    // No other child is there.
    need(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
    // What the child has mapped is mapped, and its memory, which both have, is reached.
    need(*(volatile uint32_t *)(bar + 4) == ~0x22222222u);
    need(strcmp(pages, "of the child") == 0);
    strcpy(pages, "of the parent");
    copy(address(0x10000), 0x40000, 0);
    copy(0x40000, address(0x11000), 1);
    need(strcmp(pages + 4096, "of the parent") == 0);
    need(unmap(0x10000) == 0);
    need(unmap(0x10000) == -1 && errno == ENOENT);
    // The last close is the machine's, whoever makes it.
    close_all();
    open_all();
    close_all();
}

// --- memory of each

static void own_memory(void *with) {
    int *pipes = with;
    char *pages = memory(MAP_PRIVATE);
    strcpy(pages, "private of the child");
    need(map(pages, 0x20000) == 0);
    need(write(pipes[1], "", 1) == 1);
    char byte;
    need(read(pipes[2], &byte, 1) == 1);
    // The parent has had the device write to it.
    need(strcmp(pages + 4096, "private of the parent") == 0);
}

static void private_memory(void) {
    open_all();
    char *pages = memory(MAP_PRIVATE);
    strcpy(pages, "before");
    need(map(pages, 0x10000) == 0);
    uint64_t before = address(0x10000);
    int pipes[4];
    need(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
    pid_t pid = child(own_memory, pipes);
    char byte;
    need(read(pipes[0], &byte, 1) == 1);
    need(address(0x10000) == before);
    // What was pinned before the fork is still the parent's.
    strcpy(pages, "private of the parent");
    copy(address(0x10000), 0x40000, 0);
    copy(0x40000, address(0x21000), 1);
    copy(address(0x20000), 0x40000, 0);
    copy(0x40000, address(0x11000), 1);
    need(strcmp(pages + 4096, "private of the child") == 0);
    need(write(pipes[3], "", 1) == 1);
    ended(pid);
    // The child's memory stays with the device.
    memset(pages + 4096, 0, 4096);
    copy(address(0x20000), 0x40000, 0);
    copy(0x40000, address(0x11000), 1);
    need(strcmp(pages + 4096, "private of the child") == 0);
    need(unmap(0x20000) == 0);
    // And so does what the parent unmaps.
    strcpy(pages, "unmapped");
    char *other = memory(MAP_PRIVATE);
    need(map(other, 0x30000) == 0);
    need(munmap(pages, 8192) == 0);
    copy(address(0x10000), 0x40000, 0);
    copy(0x40000, address(0x30000), 1);
    need(strcmp(other, "unmapped") == 0);
    close_all();
}

// --- interrupts

static void sets_event(void *event) {
    struct irqs irqs = {.argsz = sizeof irqs, .flags = 0x24, .index = 1, .count = 1, .event = *(int *)event};
    need(ioctl(device, 0x3b6e, &irqs) == 0);
    // An eventfd of the child's alone.
    int own = eventfd(0, EFD_NONBLOCK);
    struct irqs error = {.argsz = sizeof irqs, .flags = 0x24, .index = 3, .count = 1, .event = own};
    need(ioctl(device, 0x3b6e, &error) == 0);
    struct irqs none = {.argsz = sizeof irqs, .flags = 0x24, .index = 3, .count = 1, .event = 999};
    need(ioctl(device, 0x3b6e, &none) == -1 && errno == EBADF);
}

static void interrupts(void) {
    open_all();
    int event = eventfd(0, EFD_NONBLOCK);
    ended(child(sets_event, &event));
    *(volatile uint32_t *)(bar + 0x60) = 1;
    struct pollfd wait = {.fd = event, .events = POLLIN};
    need(poll(&wait, 1, 10000) == 1);
    uint64_t count;
    need(read(event, &count, 8) == 8 && count == 1);
    close_all();
}

// --- another network namespace

static void allocates(void *times);

static void in_a_network_of_its_own(void *pages) {
    // Who is not root is that in a namespace.
    need(unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0);
    child_maps(pages);
    // A child there comes to it by itself.
    ended(child(allocates, (void *)5));
}

static void networks(void) {
    open_all();
    *(volatile uint32_t *)(bar + 4) = 0x11111111;
    char *pages = memory(MAP_SHARED);
    // The first brings the keeper about, the second finds it.
    for (int i = 0; i < 2; i++) {
        ended(child(in_a_network_of_its_own, pages));
        need(*(volatile uint32_t *)(bar + 4) == ~0x22222222u);
        *(volatile uint32_t *)(bar + 4) = 0x11111111;
        need(unmap(0x10000) == 0);
    }
    close_all();
}

// --- the owner ends first

static void outlives(pid_t parent, int told) {
    // Until the parent is gone with all that it had open: of its descriptors the end of a pipe may be closed before the device.
    while (getppid() == parent)
        usleep(1000);
    uint64_t unused;
    need(get_pa(0x10000, &unused) == 0);
    need(unmap(0x10000) == 0);
    need(*(volatile uint32_t *)(bar + 4) == ~0x33333333u);
    close_all();
    open_all();
    close_all();
    need(write(told, "", 1) == 1);
}

static void owner_ends(int changes) {
    int ends[2], status;
    need(pipe(ends) == 0);
    pid_t owner = fork();
    need(owner >= 0);
    if (owner == 0) {
        open_all();
        char *pages = memory(MAP_PRIVATE);
        need(map(pages, changes ? 0x50000 : 0x10000) == 0);
        *(volatile uint32_t *)(bar + 4) = changes ? 0x44444444 : 0x33333333;
        pid_t parent = getpid(), pid = fork();
        need(pid >= 0);
        if (pid == 0) {
            outlives(parent, ends[1]);
            _exit(0);
        }
        if (changes) {
            need(unmap(0x50000) == 0 && map(pages, 0x10000) == 0);
            *(volatile uint32_t *)(bar + 4) = 0x33333333;
        }
        exit(0);
    }
    close(ends[1]);
    need(waitpid(owner, &status, 0) == owner && status == 0);
    char byte;
    need(read(ends[0], &byte, 1) == 1);
}

// --- many processes

static void allocates(void *times) {
    for (long i = 0; i < (long)times; i++) {
        struct alloc alloc = {.size = sizeof alloc};
        need(ioctl(iommufd, 0x3b81, &alloc) == 0);
        struct destroy destroy = {.size = sizeof destroy, .id = alloc.id};
        need(ioctl(iommufd, 0x3b80, &destroy) == 0);
        need(*(volatile uint32_t *)bar == 0x010000ed);
    }
}

static void descends(void *depth) {
    if (depth)
        ended(child(descends, (char *)depth - 1));
    allocates((void *)5);
}

static void *forks(void *unused) {
    for (int i = 0; i < 5; i++) {
        ended(child(allocates, (void *)10));
        ended(child(descends, (void *)2));
    }
    return unused;
}

static volatile sig_atomic_t handled;

static void forks_in_handler(int signal) {
    (void)signal;
    ended(child(allocates, (void *)5));
    handled = 1;
}

static void forever(void *unused) {
    (void)unused;
    for (;;)
        allocates((void *)1);
}

static void many(void) {
    open_all();
    // The keeper has no end of the program's pipes.
    int pipes[2];
    need(pipe(pipes) == 0);
    pid_t first = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    need(first >= 0);
    if (first == 0)
        _exit(0);
    ended(first);
    ended(child(allocates, (void *)1));
    close(pipes[1]);
    char byte;
    need(read(pipes[0], &byte, 1) == 0);
    close(pipes[0]);

    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        need(pthread_create(&threads[i], NULL, forks, NULL) == 0);
    allocates((void *)200);
    for (int i = 0; i < 4; i++)
        need(pthread_join(threads[i], NULL) == 0);
    // One that shares descriptors with this process closes none of them.
    pid_t sharing = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
    need(sharing >= 0);
    if (sharing == 0) {
        allocates((void *)5);
        _exit(0);
    }
    ended(sharing);
    signal(SIGUSR1, forks_in_handler);
    need(raise(SIGUSR1) == 0 && handled);

    // Whoever is killed in the middle of a call stops nobody.
    pid_t killed[8];
    for (int i = 0; i < 8; i++)
        killed[i] = child(forever, NULL);
    for (int i = 0; i < 8; i++) {
        allocates((void *)50);
        need(kill(killed[i], SIGKILL) == 0 && waitpid(killed[i], NULL, 0) == killed[i]);
    }
    allocates((void *)50);
    // A device that the killed had open is the others' still, and closed with the last.
    close_all();
    open_all();
    pid_t holder = child(forever, NULL);
    close_all();
    need(kill(holder, SIGKILL) == 0 && waitpid(holder, NULL, 0) == holder);
    open_all();
    close_all();
}

// --- without the keeper

static void keeper_killed(void) {
    open_all();
    ended(child(allocates, (void *)1));
    // The only process of that name that is this one's child in the kernel's books.
    char command[64];
    snprintf(command, sizeof command, "pkill -KILL -P %d -x ioasis-keeper", getpid());
    need(system(command) == 0);
    struct alloc alloc = {.size = sizeof alloc};
    for (int i = 0; i < 3; i++)
        need(ioctl(iommufd, 0x3b81, &alloc) == -1 && errno == EIO);
    uint32_t value;
    need(pread(device, &value, 4, 7ull << 40) == -1 && errno == EIO);
    close(device);
    close(iommufd);
}

int main(int argc, char **argv) {
    node = argv[1];
    const char *only = argc > 2 ? argv[2] : "";
    if (strstr("context", only))
        context();
    if (strstr("memory", only))
        private_memory();
    if (strstr("interrupts", only))
        interrupts();
    if (strstr("networks", only))
        networks();
    if (strstr("daemon", only))
        owner_ends(0);
    if (strstr("handover", only))
        owner_ends(1);
    if (strstr("many", only))
        many();
    if (*only && strstr("killed", only))
        keeper_killed();
    puts("one machine");
    return 0;
}
