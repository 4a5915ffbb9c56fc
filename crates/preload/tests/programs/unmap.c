// Memory that the program unmaps, replaces, empties or moves while a device has it, as a kernel's pinned pages live on: a program alone,
// one that has a keeper ("kept"), and a child ("child").
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct bind { uint32_t argsz, flags; int32_t iommufd; uint32_t devid; uint64_t token; };
struct attach { uint32_t argsz, flags, pt_id, pasid; };
struct alloc { uint32_t size, flags, id; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t va, length, iova; };
struct unmap { uint32_t size, ioas; uint64_t iova, length; };
struct get_pa { uint32_t size, flags, ioas, reserved; uint64_t iova, length, phys; };

enum { PAGE = 4096, RESULT = 0x8000000 };
static int iommufd;
static uint32_t ioas;
static volatile char *bar;
static char *result;

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void give(void *memory, uint64_t length, uint64_t iova) {
    struct map map = {.size = sizeof map, .flags = 7, .ioas = ioas, .va = (uintptr_t)memory, .length = length, .iova = iova};
    need(ioctl(iommufd, 0x3b85, &map) == 0, "IOAS_MAP");
}

static void take(uint64_t length, uint64_t iova) {
    struct unmap unmap = {.size = sizeof unmap, .ioas = ioas, .iova = iova, .length = length};
    need(ioctl(iommufd, 0x3b86, &unmap) == 0 && unmap.length == length, "IOAS_UNMAP");
}

// What a device says to an IOVA.
static uint64_t address(uint64_t iova) {
    struct get_pa get_pa = {.size = sizeof get_pa, .ioas = ioas, .iova = iova, .length = PAGE};
    return ioctl(iommufd, 0x3b95, &get_pa) == 0 ? get_pa.phys : iova;
}

static void copy(uint64_t from, uint64_t to, int direction) {
    *(volatile uint64_t *)(bar + 0x80) = from;
    *(volatile uint64_t *)(bar + 0x88) = to;
    *(volatile uint64_t *)(bar + 0x90) = 32;
    *(volatile uint32_t *)(bar + 0x98) = 1 | direction << 1;
    while (*(volatile uint32_t *)(bar + 0x98) & 1)
        ;
}

// The device reads a page, and writes what it has found to the result.
static int device_reads(uint64_t page, const char *words) {
    memset(result, 0, PAGE);
    copy(page, 0x40000, 0);
    copy(0x40000, address(RESULT), 1);
    return strcmp(result, words) == 0;
}

static void device_writes(uint64_t page, const char *words) {
    strcpy(result, words);
    copy(address(RESULT), 0x40000, 0);
    copy(0x40000, page, 1);
}

static char *memory(void *at, size_t length, int flags, int number) {
    int fixed = at ? MAP_FIXED : 0;
    char *start = mmap(at, length, PROT_READ | PROT_WRITE, flags | fixed | (number < 0 ? MAP_ANONYMOUS : 0), number, 0);
    need(start != MAP_FAILED, "mmap");
    return start;
}

static long resident(void) {
    long size, pages;
    FILE *file = fopen("/proc/self/statm", "r");
    need(file && fscanf(file, "%ld %ld", &size, &pages) == 2, "statm");
    fclose(file);
    return pages * PAGE;
}

static void private_memory(void) {
    char *start = memory(NULL, 3 * PAGE, MAP_PRIVATE, -1);
    for (int page = 0; page < 3; page++)
        sprintf(start + page * PAGE, "page %d", page);
    give(start, 3 * PAGE, 0x10000);
    uint64_t pages[3];
    for (int page = 0; page < 3; page++)
        pages[page] = address(0x10000 + page * PAGE);

    // The middle, then the rest.
    need(munmap(start + PAGE, PAGE) == 0, "munmap");
    need(mincore(start + PAGE, PAGE, (unsigned char *)result) == -1 && errno == ENOMEM, "it is gone");
    need(device_reads(pages[1], "page 1") && device_reads(pages[2], "page 2"), "what was unmapped");
    need(address(0x10000 + PAGE) == pages[1], "the address stays");
    strcpy(memory(start, PAGE, MAP_PRIVATE, -1), "another");
    need(device_reads(pages[0], "page 0"), "what was replaced");
    need(munmap(start, 3 * PAGE) == 0, "munmap");
    need(device_reads(pages[0], "page 0") && device_reads(pages[2], "page 2"), "all of it");
    device_writes(pages[1], "written");
    need(device_reads(pages[1], "written"), "what a device has written");

    // The same addresses again are other memory.
    strcpy(memory(start, PAGE, MAP_PRIVATE, -1), "anew");
    give(start, PAGE, 0x20000);
    need(address(0x20000) != address(0x10000) && device_reads(address(0x20000), "anew"), "other memory");
    need(device_reads(pages[0], "page 0"), "as before");
    take(PAGE, 0x20000);
    take(3 * PAGE, 0x10000);
    munmap(start, PAGE);
}

static void refused_replacement(void) {
    char *start = memory(NULL, PAGE, MAP_PRIVATE, -1);
    strcpy(start, "still there");
    give(start, PAGE, 0x10000);
    int zero = open("/dev/null", O_RDONLY);
    need(mmap(start, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, zero, 0) == MAP_FAILED && errno == ENODEV, "mmap");
    need(munmap(start + 1, PAGE) == -1 && errno == EINVAL, "munmap");
    need(strcmp(start, "still there") == 0 && device_reads(address(0x10000), "still there"), "refused");
    strcpy(start, "one memory");
    need(device_reads(address(0x10000), "one memory"), "and one memory");
    take(PAGE, 0x10000);
}

static void emptied(void) {
    char *start = memory(NULL, 2 * PAGE, MAP_PRIVATE, -1);
    strcpy(start + PAGE, "full");
    give(start, 2 * PAGE, 0x10000);
    need(madvise(start + PAGE, PAGE, MADV_FREE) == 0 && strcmp(start + PAGE, "full") == 0, "MADV_FREE");
    need(madvise(start + PAGE, PAGE, MADV_DONTNEED) == 0 && start[PAGE] == 0, "MADV_DONTNEED");
    need(device_reads(address(0x11000), "full"), "what the device has");
    strcpy(start + PAGE, "the program's");
    need(device_reads(address(0x11000), "full"), "still");
    take(2 * PAGE, 0x10000);
    munmap(start, 2 * PAGE);
}

static void moved(void) {
    char *start = memory(NULL, 2 * PAGE, MAP_PRIVATE, -1), *place = memory(NULL, 4 * PAGE, MAP_PRIVATE, -1);
    strcpy(start, "one");
    strcpy(start + PAGE, "two");
    strcpy(place, "target");
    give(start, 2 * PAGE, 0x10000);
    give(place, PAGE, 0x20000);
    uint64_t pages[] = {address(0x10000), address(0x11000), address(0x20000)};
    need(mremap(start, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place) == place, "mremap");
    need(address(0x10000) == pages[0] && device_reads(pages[0], "one") && device_reads(pages[2], "target"), "moved");
    strcpy(place + PAGE, "changed");
    need(device_reads(pages[1], "changed"), "the same memory");
    need(mremap(place, 2 * PAGE, PAGE, 0) == place && device_reads(pages[1], "changed"), "shrunk");
    take(2 * PAGE, 0x10000);
    take(PAGE, 0x20000);
    munmap(place, 4 * PAGE);
}

static void emptied_file(void) {
    int file = memfd_create("memory", 0);
    need(ftruncate(file, PAGE) == 0, "ftruncate");
    char *start = memory(NULL, PAGE, MAP_SHARED, file);
    strcpy(start, "in the file");
    give(start, PAGE, 0x10000);
    need(madvise(start, PAGE, MADV_DONTNEED) == 0 && strcmp(start, "in the file") == 0, "MADV_DONTNEED");
    strcpy(start, "of both");
    need(device_reads(address(0x10000), "of both"), "the file's page stays");
    take(PAGE, 0x10000);
    munmap(start, PAGE);
    close(file);
}

static void files(void) {
    int file = memfd_create("memory", 0);
    need(ftruncate(file, 4 * PAGE) == 0, "ftruncate");
    char *one = memory(NULL, 4 * PAGE, MAP_SHARED, file), *other = memory(NULL, 4 * PAGE, MAP_SHARED, file);
    char *private = memory(NULL, PAGE, MAP_PRIVATE, file);
    strcpy(one + PAGE, "in the file");
    give(one, 2 * PAGE, 0x10000);
    give(other, 2 * PAGE, 0x20000);
    uint64_t page = address(0x11000);
    need(munmap(one, 4 * PAGE) == 0 && device_reads(page, "in the file"), "munmap");
    strcpy(other + PAGE, "later");
    need(device_reads(page, "later"), "the same file");
    need(munmap(other, 4 * PAGE) == 0 && device_reads(page, "later"), "munmap of both");
    device_writes(page, "by the device");
    char found[32];
    need(pread(file, found, sizeof found, PAGE) == sizeof found && strcmp(found, "by the device") == 0, "the file has it");
    take(2 * PAGE, 0x10000);
    need(device_reads(address(0x21000), "by the device"), "the other");
    take(2 * PAGE, 0x20000);

    strcpy(private, "a copy");
    give(private, PAGE, 0x10000);
    need(munmap(private, PAGE) == 0 && device_reads(address(0x10000), "a copy"), "private memory of a file");
    take(PAGE, 0x10000);
    close(file);
}

static void huge_pages(int sharing) {
    char *start = memory(NULL, 2 << 20, sharing | MAP_HUGETLB, -1);
    strcpy(start + 5 * PAGE, "a huge page");
    give(start + 4 * PAGE, 4 * PAGE, 0x10000);
    uint64_t page = address(0x11000);
    need(munmap(start, 2 << 20) == 0 && device_reads(page, "a huge page"), "munmap of a huge page");
    device_writes(page, "written");
    need(device_reads(page, "written"), "what a device has written");
    take(4 * PAGE, 0x10000);
}

static void given_back(void) {
    const long length = 64 << 20;
    char *start = memory(NULL, length, MAP_PRIVATE, -1);
    memset(start, 1, length);
    give(start, length, 0x10000000);
    munmap(start, length);
    long kept = resident();
    take(length, 0x10000000);
    need(kept - resident() > length / 2, "it goes with the last unpin");
}

// What no device has is unmapped without a word to the keeper, beside what one has.
static void cheap(void) {
    char *start = memory(NULL, 1 << 20, MAP_PRIVATE, -1);
    give(start + (1 << 19), PAGE, 0x10000);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    for (int i = 0; i < 1000; i++)
        need(munmap(memory(NULL, 1 << 18, MAP_PRIVATE, -1), 1 << 18) == 0, "munmap");
    getrusage(RUSAGE_SELF, &after);
    need(after.ru_nvcsw - before.ru_nvcsw < 500, "waits for the keeper");
    take(PAGE, 0x10000);
    munmap(start, 1 << 20);
}

// Pinned before there is a keeper, and changed since; some of it cannot be read any more.
static void early(char *start) {
    strcpy(start, "changed since");
    need(mprotect(start + PAGE, PAGE, PROT_NONE) == 0 && munmap(start, 2 * PAGE) == 0, "munmap");
    need(device_reads(address(0x50000), "changed since"), "what could be read");
    take(2 * PAGE, 0x50000);
}

static void has_keeper(int goes_on_in_child) {
    pid_t child = fork();
    need(child >= 0, "fork");
    struct alloc alloc = {.size = sizeof alloc};
    need(child || ioctl(iommufd, 0x3b81, &alloc) == 0, "IOAS_ALLOC of the child");
    if (child == 0 && !goes_on_in_child)
        exit(0);
    int status = 0;
    need(!child || (waitpid(child, &status, 0) == child && status == 0), "the child");
    if (child && goes_on_in_child)
        exit(0);
}

int main(int argc, char **argv) {
    iommufd = open("/dev/iommu", O_RDWR);
    int device = open(argv[1], O_RDWR);
    need(iommufd >= 0 && device >= 0, "open");
    struct bind bind = {.argsz = 16, .iommufd = iommufd};
    need(ioctl(device, 0x3b76, &bind) == 0, "BIND");
    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(iommufd, 0x3b81, &alloc) == 0, "IOAS_ALLOC");
    ioas = alloc.id;
    struct attach attach = {.argsz = 12, .pt_id = alloc.id};
    need(ioctl(device, 0x3b77, &attach) == 0, "ATTACH");
    bar = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    uint16_t command = 6;
    need(bar != MAP_FAILED && pwrite(device, &command, 2, (7ull << 40) + 4) == 2, "registers");
    const char *way = argc > 2 ? argv[2] : "alone";
    int alone = strcmp(way, "kept") != 0 && strcmp(way, "child") != 0;
    char *before = memory(NULL, 2 * PAGE, MAP_PRIVATE, -1);
    strcpy(before, "at the fork");
    give(before, 2 * PAGE, 0x50000);
    if (!alone)
        has_keeper(strcmp(way, "child") == 0);
    result = memory(NULL, PAGE, MAP_PRIVATE, -1);
    give(result, PAGE, RESULT);
    if (strcmp(way, "free") == 0 || strcmp(way, "protect") == 0) {
        // By means that nobody sees: libc's own, or those of the processor.
        char *block = malloc(1 << 20), *page = block + PAGE - (uintptr_t)block % PAGE;
        strcpy(page, "block");
        give(page, PAGE, 0x10000);
        need(device_reads(address(0x10000), "block"), "while it is there");
        if (strcmp(way, "free") == 0)
            free(block);
        else
            mprotect(page, PAGE, PROT_NONE);
        device_writes(address(0x10000), "nowhere");
        need(!device_reads(address(0x10000), "nowhere"), "it is not there");
        puts("went on");
        return 0;
    }
    if (strcmp(way, "child") != 0)
        early(before);
    private_memory();
    refused_replacement();
    emptied();
    moved();
    emptied_file();
    huge_pages(MAP_PRIVATE);
    huge_pages(MAP_SHARED);
    if (alone) {
        files();
        given_back();
    } else {
        cheap();
    }
    puts("lived on");
    return 0;
}
