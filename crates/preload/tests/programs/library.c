// A library that makes ioctls by itself, past libc, and has others made by code that it writes at run time.
#include <stdint.h>
#include <string.h>

#include "itself.h"

struct alloc { uint32_t size, flags, id; };

// IOAS_ALLOC; the number of the page table, or -errno.
int library_alloc(int iommufd) {
    struct alloc alloc = {.size = sizeof alloc};
    return ioctl(iommufd, 0x3b81, &alloc) == 0 ? (int)alloc.id : -errno;
}

// Any ioctl.
int library_ioctl(int number, unsigned long command, void *argument) {
    int answer = ioctl(number, command, argument);
    return answer < 0 ? -errno : answer;
}

// As library_alloc, by code that was made just now.
int library_alloc_made(int iommufd) {
    static const uint8_t code[] = {0xb8, 16, 0, 0, 0, 0x0f, 0x05, 0xc3}; // mov eax, SYS_ioctl; syscall; ret
    void *page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memcpy(page, code, sizeof code);
    itself(SYS_mprotect, (long)page, 4096, PROT_READ | PROT_EXEC, 0, 0, 0);
    struct alloc alloc = {.size = sizeof alloc};
    int answer = ((int (*)(int, unsigned long, void *))page)(iommufd, 0x3b81, &alloc);
    munmap(page, 4096);
    return answer == 0 ? (int)alloc.id : answer;
}
