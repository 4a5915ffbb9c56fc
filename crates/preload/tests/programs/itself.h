// Before a program: what it calls by these names are system calls of its own.
#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <errno.h>

static inline long itself(long number, long a, long b, long c, long d, long e, long f) {
    register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
    long answer;
    __asm__ volatile("syscall"
                     : "=a"(answer)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    if (answer < 0 && answer > -4096) {
        errno = -answer;
        return -1;
    }
    return answer;
}

#define open(path, flags) ((int)itself(SYS_openat, AT_FDCWD, (long)(path), flags, 0, 0, 0))
#define ioctl(number, command, argument) ((int)itself(SYS_ioctl, number, command, (long)(argument), 0, 0, 0))
#define mmap(address, length, protection, flags, number, offset) \
    ((void *)itself(SYS_mmap, (long)(address), length, protection, flags, number, offset))
#define munmap(address, length) ((int)itself(SYS_munmap, (long)(address), length, 0, 0, 0, 0))
#define pread(number, to, length, offset) itself(SYS_pread64, number, (long)(to), length, offset, 0, 0)
#define pwrite(number, from, length, offset) itself(SYS_pwrite64, number, (long)(from), length, offset, 0, 0)
#define read(number, to, length) itself(SYS_read, number, (long)(to), length, 0, 0, 0)
#define poll(set, count, time) ((int)itself(SYS_poll, (long)(set), count, time, 0, 0, 0))
#define close(number) ((int)itself(SYS_close, number, 0, 0, 0, 0, 0))
