// Threads, children and handlers of signals that make system calls by themselves: built with itself.h before it.
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>

#define need(ok)                                                          \
    do {                                                                  \
        if (!(ok)) {                                                      \
            fprintf(stderr, "line %d: %s\n", __LINE__, strerror(errno));  \
            exit(1);                                                      \
        }                                                                 \
    } while (0)

struct action { void (*handler)(int); unsigned long flags; void (*restorer)(void); uint64_t mask; };

// The machine's node is there; nothing of the host has this name.
static int sees_the_machine(void) {
    int number = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    struct { uint32_t size, flags, id; } alloc = {.size = 12};
    int seen = number >= 0 && ioctl(number, 0x3b81, &alloc) == 0;
    close(number);
    return seen;
}

static volatile int handled;
static void handler(int signal) {
    handled += sees_the_machine() ? signal : 0;
}
static void *thread(void *argument) {
    return sees_the_machine() ? argument : NULL;
}
static void *leaves(void *argument) {
    pthread_exit(sees_the_machine() ? argument : NULL);
}
// The end of a handler, in the program's own code.
void restorer(void);
__asm__("restorer: mov $15, %eax; syscall");

static void child(long made) {
    need(made >= 0);
    if (made == 0)
        itself(SYS_exit_group, sees_the_machine() ? 7 : 8, 0, 0, 0, 0, 0);
    int status;
    need(waitpid(made, &status, 0) == made && WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

int main(void) {
    need(sees_the_machine());
    need(open("/dev/no-such-node", O_RDWR) == -1 && errno == ENOENT);

    char one;
    void *result;
    pthread_t id;
    need(pthread_create(&id, NULL, thread, &one) == 0 && pthread_join(id, &result) == 0 && result == &one);
    need(pthread_create(&id, NULL, leaves, &one) == 0 && pthread_join(id, &result) == 0 && result == &one);

    child(fork());
    child(itself(SYS_fork, 0, 0, 0, 0, 0, 0));
    child(itself(SYS_vfork, 0, 0, 0, 0, 0, 0));
    need(sees_the_machine());

    // All signals are blocked, as far as the program can tell.
    sigset_t all, before;
    sigfillset(&all);
    need(sigprocmask(SIG_SETMASK, &all, &before) == 0 && sees_the_machine());
    need(sigprocmask(SIG_SETMASK, &before, NULL) == 0);
    uint64_t some = ~0ull, none = 0, now;
    need(itself(SYS_rt_sigprocmask, SIG_SETMASK, (long)&some, 0, 8, 0, 0) == 0 && sees_the_machine());
    need(itself(SYS_rt_sigprocmask, SIG_SETMASK, (long)&none, (long)&now, 8, 0, 0) == 0);
    need(now & 1 << (SIGUSR1 - 1));
    need(itself(SYS_rt_sigprocmask, SIG_SETMASK, 0, (long)&now, 8, 0, 0) == 0 && now == 0);

    // Handlers that nothing may interrupt, set by libc and by the program, which ends the second by itself.
    struct sigaction action = {.sa_handler = handler};
    sigfillset(&action.sa_mask);
    need(sigaction(SIGUSR1, &action, NULL) == 0 && raise(SIGUSR1) == 0 && handled == SIGUSR1);
    struct action own = {.handler = handler, .flags = 0x04000000, .restorer = restorer, .mask = ~0ull};
    need(itself(SYS_rt_sigaction, SIGUSR2, (long)&own, 0, 8, 0, 0) == 0);
    need(itself(SYS_kill, getpid(), SIGUSR2, 0, 0, 0, 0) == 0 && handled == SIGUSR1 + SIGUSR2);

    // The program's own SIGSYS, which is not one of these.
    need(sigaction(SIGSYS, &action, NULL) == 0 && raise(SIGSYS) == 0 && handled == SIGUSR1 + SIGUSR2 + SIGSYS);
    need(sees_the_machine());

    // A call that waits is interrupted, as often as it takes until one comes while it waits.
    struct itimerval often = {{0, 10000}, {0, 10000}}, never = {{0, 0}, {0, 0}};
    int pipes[2];
    need(pipe(pipes) == 0 && sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
    need(itself(SYS_read, pipes[0], (long)&one, 1, 0, 0, 0) == -1 && errno == EINTR);
    need(setitimer(ITIMER_REAL, &never, NULL) == 0);

    // So is one in which a device gets its turns; a mask is for as long as it waits.
    int node = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    struct pollfd entry = {.fd = pipes[0], .events = POLLIN};
    sigset_t alarms;
    sigemptyset(&alarms);
    sigaddset(&alarms, SIGALRM);
    handled = 0;
    need(setitimer(ITIMER_REAL, &often, NULL) == 0);
    need(poll(&entry, 1, -1) == -1 && errno == EINTR && handled > 0);
    need(sigprocmask(SIG_BLOCK, &alarms, NULL) == 0);
    handled = 0;
    need(itself(SYS_poll, (long)&entry, 1, 50, 0, 0, 0) == 0 && handled == 0);
    uint64_t open_mask = 0;
    need(itself(SYS_ppoll, (long)&entry, 1, 0, (long)&open_mask, 8, 0) == -1 && errno == EINTR && handled > 0);
    need(itself(SYS_ppoll, (long)&entry, 1, 0, 8, 8, 0) == -1 && errno == EFAULT);
    need(setitimer(ITIMER_REAL, &never, NULL) == 0 && sigprocmask(SIG_UNBLOCK, &alarms, NULL) == 0);
    signal(SIGALRM, SIG_IGN);
    need(setitimer(ITIMER_REAL, &often, NULL) == 0 && itself(SYS_poll, (long)&entry, 1, 50, 0, 0, 0) == 0);
    need(setitimer(ITIMER_REAL, &never, NULL) == 0);
    close(node);

    // A path with limits to what it leads through.
    struct { uint64_t flags, mode, resolve; } how = {O_RDWR | O_CLOEXEC, 0, 0};
    node = itself(SYS_openat2, AT_FDCWD, (long)"/dev/iommu", (long)&how, sizeof how, 0, 0);
    need(node >= 0 && ioctl(node, 0x3b81, &(struct { uint32_t size, flags, id; }){12}) == 0);
    close(node);
    how.resolve = 4;
    need(itself(SYS_openat2, AT_FDCWD, (long)"/dev/iommu", (long)&how, sizeof how, 0, 0) == -1 && errno == ENOSYS);
    need(close(itself(SYS_openat2, AT_FDCWD, (long)"/etc/passwd", (long)&(uint64_t[]){0, 0, 4}, sizeof how, 0, 0)) == 0);

    // By number, by way of libc.
    int number = syscall(SYS_openat, AT_FDCWD, "/dev/iommu", O_RDWR);
    struct { uint32_t size, flags, id; } alloc = {.size = 12};
    need(number >= 0 && syscall(SYS_ioctl, number, 0x3b81, &alloc) == 0 && syscall(SYS_close, number) == 0);
    char folder[4096];
    need(chdir("/sys/bus/pci/devices") == 0 && itself(SYS_getcwd, (long)folder, sizeof folder, 0, 0, 0, 0) == 21);
    need(strcmp(folder, "/sys/bus/pci/devices") == 0);

    struct stat { char bytes[144]; } stat;
    need(itself(SYS_newfstatat, AT_FDCWD, (long)"0000:42:00.0/vendor", (long)&stat, 0, 0, 0) == 0);
    puts("seen");
    return 0;
}
