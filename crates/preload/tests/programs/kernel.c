// What a program sees of a kernel beside the calls on its devices: what is told of open files, the log, limits and capabilities.
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

struct bind { uint32_t size, flags; int32_t iommufd; uint32_t id; };
struct attach { uint32_t size, flags, table; };
struct alloc { uint32_t size, flags, id; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t va, length, iova; };
struct unmap { uint32_t size, ioas; uint64_t iova, length; };
struct header { uint32_t version; int pid; };
struct sets { uint32_t effective, permitted, inheritable; };

#define NODE "/dev/vfio/devices/noiommu-vfio0"
#define UNBIND "/sys/bus/pci/drivers/vfio-pci/unbind"
#define BIND "/sys/bus/pci/drivers/vfio-pci/bind"
#define ADDRESS "0000:42:00.0"
#define TAINT "vfio-pci 0000:42:00.0: Adding kernel taint for vfio-noiommu cdev"
#define CAP_SYS_RAWIO 17
#define MIB (1 << 20)

int capget(struct header *header, struct sets *sets);
int capset(struct header *header, const struct sets *sets);

#define need(ok) needed((ok) != 0, #ok, __LINE__)
static void needed(int ok, const char *what, int line) {
    if (!ok) {
        fprintf(stderr, "process %d, line %d: %s: %s\n", getpid(), line, what, strerror(errno));
        _exit(1);
    }
}

static int opened(const char *path, int flags) {
    int file = open(path, flags);
    if (file < 0)
        fprintf(stderr, "%s: ", path);
    need(file >= 0);
    return file;
}

static void put(const char *path, const char *text) {
    int file = opened(path, O_WRONLY);
    need(write(file, text, strlen(text)) == (ssize_t)strlen(text));
    close(file);
}

// Whether a line of a file about an open one is this.
static int tells(const char *folder, int file, const char *wanted) {
    char path[64], line[256];
    int found = 0;
    snprintf(path, sizeof path, "%s/fdinfo/%d", folder, file);
    struct stat stat_of;
    need(stat(path, &stat_of) == 0 && S_ISREG(stat_of.st_mode));
    FILE *info = fopen(path, "r");
    need(info);
    while (fgets(line, sizeof line, info)) {
        need(strncmp(line, "lock:", 5) != 0);
        line[strcspn(line, "\n")] = 0;
        found |= strcmp(line, wanted) == 0;
    }
    fclose(info);
    return found;
}

static void open_files(void) {
    int device = opened(NODE, O_RDWR | O_CLOEXEC), context = opened("/dev/iommu", O_RDONLY);
    char own[32], thread[64], inode[64];
    struct stat stat_of;
    snprintf(own, sizeof own, "/proc/%d", getpid());
    snprintf(thread, sizeof thread, "/proc/self/task/%d", (int)syscall(SYS_gettid));
    need(fstat(device, &stat_of) == 0);
    snprintf(inode, sizeof inode, "ino:\t%lu", (unsigned long)stat_of.st_ino);
    const char *folders[] = {"/proc/self", "/proc/thread-self", own, thread};
    for (int i = 0; i < 4; i++) {
        need(tells(folders[i], device, "vfio-device-syspath: /sys/devices/pci0000:42/0000:42:00.0"));
        need(tells(folders[i], device, "pos:\t0") && tells(folders[i], device, inode));
        need(tells(folders[i], device, "flags:\t02100002"));
        need(tells(folders[i], context, "flags:\t0100000"));
    }
    // Those of the host are the host's.
    int host = opened("/dev/null", O_RDONLY);
    need(tells("/proc/self", host, "flags:\t0100000"));
    close(host);

    // By its link a file is opened once more.
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", context);
    int again = opened(link, O_RDWR);
    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(again, 0x3b81, &alloc) == 0 && again != context);
    close(again), close(context), close(device);
    // So is one that was only looked at.
    int looked = opened(NODE, O_PATH | O_CLOEXEC);
    snprintf(link, sizeof link, "/proc/%d/fd/%d", getpid(), looked);
    device = opened(link, O_RDWR);
    need(fstat(device, &stat_of) == 0 && S_ISCHR(stat_of.st_mode));
    close(device);
    put(UNBIND, ADDRESS);
    need(open(link, O_RDWR) == -1 && errno == ENXIO);
    close(looked);
    put(BIND, ADDRESS);
}

static void nothing(int signal) {
    (void)signal;
}

static void the_log(void) {
    char record[1024];
    struct stat stat_of;
    need(stat("/dev/kmsg", &stat_of) == 0 && S_ISCHR(stat_of.st_mode) && major(stat_of.st_rdev) == 1);
    int log = opened("/dev/kmsg", O_RDWR | O_NONBLOCK);
    unsigned priority;
    unsigned long long number = 0, before = 0, time;
    int taints = 0;
    ssize_t length;
    while ((length = read(log, record, sizeof record - 1)) > 0) {
        record[length] = 0;
        char *text = strchr(record, ';');
        need(text && record[length - 1] == '\n');
        record[length - 1] = 0;
        need(sscanf(record, "%u,%llu,%llu,-;", &priority, &number, &time) == 3);
        need(number == 0 || number == before + 1);
        before = number;
        taints += strcmp(text + 1, TAINT) == 0 && priority == 4;
    }
    // At the start, and after the unbinding.
    need(length == -1 && errno == EAGAIN && taints == 2);
    struct pollfd polled = {.fd = log, .events = POLLIN};
    need(poll(&polled, 1, 0) == 0);

    // What a driver says now can be read, and so can what a program says.
    put(UNBIND, ADDRESS), put(BIND, ADDRESS);
    need(poll(&polled, 1, 0) == 1 && polled.revents == POLLIN);
    need(lseek(log, 0, SEEK_END) == 0 && read(log, record, sizeof record) == -1 && errno == EAGAIN);
    need(write(log, "<6>from a program\n", 18) == 18);
    need((length = read(log, record, sizeof record - 1)) > 0);
    record[length] = 0;
    need(strncmp(record, "14,", 3) == 0 && strstr(record, ",-;from a program\n"));
    need(lseek(log, 0, SEEK_SET) == 0 && read(log, record, sizeof record) > 0 && strncmp(record, "6,0,", 4) == 0);
    need(lseek(log, 1, SEEK_SET) == -1 && errno == ESPIPE);

    // Who reads with patience waits, until there is something or a signal comes.
    int patient = opened("/dev/kmsg", O_RDONLY);
    need(lseek(patient, 0, SEEK_END) == 0);
    struct sigaction action = {.sa_handler = nothing};
    sigaction(SIGALRM, &action, NULL);
    ualarm(50000, 0);
    need(read(patient, record, sizeof record) == -1 && errno == EINTR);
    pid_t child = fork();
    if (child == 0) {
        usleep(50000);
        need(write(log, "from a child", 12) == 12);
        _exit(0);
    }
    need((length = read(patient, record, sizeof record - 1)) > 0);
    record[length] = 0;
    int status;
    need(strstr(record, ",-;from a child\n") && waitpid(child, &status, 0) == child && status == 0);
    close(patient), close(log);

    static char all[MIB];
    need(klogctl(10, NULL, 0) > 0);
    need((length = klogctl(3, all, sizeof all - 1)) > 0);
    need(strstr(all, "] " TAINT "\n") && strstr(all, "] from a child\n") && strncmp(all, "<6>[", 4) == 0);
    need(klogctl(3, all, 60) > 0 && klogctl(3, all, -1) == -1 && errno == EINVAL);
    need(klogctl(5, NULL, 0) == 0 && klogctl(3, all, sizeof all) == 0);
}

static struct map mapping = {.size = sizeof mapping, .flags = 7, .length = MIB, .iova = MIB};
static int context;

// Whether a megabyte can be pinned.
static int pins(void) {
    struct unmap unmap = {.size = sizeof unmap, .ioas = mapping.ioas, .iova = MIB, .length = MIB};
    if (ioctl(context, 0x3b85, &mapping) != 0) {
        need(errno == ENOMEM);
        return 0;
    }
    need(ioctl(context, 0x3b86, &unmap) == 0);
    return 1;
}

static void limits(void) {
    struct rlimit limit, low;
    need(getrlimit(RLIMIT_MEMLOCK, &low) == 0 && low.rlim_cur == 64 << 10);
    int device = opened(NODE, O_RDWR);
    context = opened("/dev/iommu", O_RDWR);
    struct bind bind = {.size = sizeof bind, .iommufd = context};
    need(ioctl(device, 0x3b76, &bind) == 0);
    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(context, 0x3b81, &alloc) == 0);
    struct attach attach = {.size = sizeof attach, .table = alloc.id};
    need(ioctl(device, 0x3b77, &attach) == 0);
    mapping.ioas = alloc.id;
    mapping.va = (uintptr_t)mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(!pins());
    limit = low;
    limit.rlim_cur = limit.rlim_max;
    need(setrlimit(RLIMIT_MEMLOCK, &limit) == 0 && pins());
    // Each process has its own.
    pid_t child = fork();
    if (child == 0) {
        need(pins() && prlimit(0, RLIMIT_MEMLOCK, &low, NULL) == 0 && !pins());
        _exit(0);
    }
    int status;
    need(waitpid(child, &status, 0) == child && status == 0 && pins());
    need(prlimit(getpid(), RLIMIT_MEMLOCK, &low, NULL) == 0 && !pins());
    close(device), close(context);
}

static void capabilities(void) {
    struct header header = {.version = 0x20080522};
    struct sets sets[2], fewer[2];
    need(capget(&header, sets) == 0 && sets[0].effective >> CAP_SYS_RAWIO & 1);
    memcpy(fewer, sets, sizeof sets);
    fewer[0].effective &= ~(1u << CAP_SYS_RAWIO);
    need(capset(&header, fewer) == 0 && capget(&header, fewer) == 0);
    need(!(fewer[0].effective >> CAP_SYS_RAWIO & 1) && fewer[0].permitted >> CAP_SYS_RAWIO & 1);
    need(open(NODE, O_RDWR) == -1 && errno == EPERM);
    need(capset(&header, sets) == 0);
    close(opened(NODE, O_RDWR));
    // Who is root no more has not what root has; any other user stays what he is.
    int was_root = geteuid() == 0, status;
    pid_t child = fork();
    if (child == 0) {
        need(setresuid(65534, 65534, 65534) == 0 || (!was_root && setuid(getuid()) == 0));
        need(capget(&header, fewer) == 0);
        need((fewer[0].effective >> CAP_SYS_RAWIO & 1) == !was_root);
        int device = open(NODE, O_RDWR);
        need(was_root ? device == -1 && errno == EPERM : device >= 0);
        _exit(0);
    }
    need(waitpid(child, &status, 0) == child && status == 0);
    // What is given up does not come back.
    fewer[0].permitted &= ~(1u << CAP_SYS_RAWIO);
    need(capset(&header, fewer) == 0);
    need(capset(&header, sets) == -1 && errno == EPERM);
    need(open(NODE, O_RDWR) == -1 && errno == EPERM);
}

int main(void) {
    open_files();
    the_log();
    limits();
    capabilities();
    puts("as of a kernel");
    return 0;
}
