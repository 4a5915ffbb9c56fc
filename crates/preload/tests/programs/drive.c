// A driver of QEMU's `edu` device, as one writes it for Linux 7.3: nothing here knows of a machine.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct bind { uint32_t argsz, flags; int32_t iommufd; uint32_t devid; uint64_t token; };
struct attach { uint32_t argsz, flags, pt_id, pasid; };
struct alloc { uint32_t size, flags, id; };
struct map { uint32_t size, flags, ioas, reserved; uint64_t va, length, iova; };
struct unmap { uint32_t size, ioas; uint64_t iova, length; };
struct get_pa { uint32_t size, flags, ioas, reserved; uint64_t iova, length, phys; };
struct irqs { uint32_t argsz, flags, index, start, count; int32_t event; };

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

int main(int argc, char **argv) {
    int iommufd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
    need(iommufd >= 0, "open /dev/iommu");
    int device = open(argc > 1 ? argv[1] : "/dev/vfio/devices/noiommu-vfio0", O_RDWR | O_CLOEXEC);
    need(device >= 0, "open the device");
    struct bind bind = {.argsz = 16, .iommufd = iommufd};
    need(ioctl(device, 0x3b76, &bind) == 0, "BIND");
    struct alloc alloc = {.size = sizeof alloc};
    need(ioctl(iommufd, 0x3b81, &alloc) == 0, "IOAS_ALLOC");
    struct attach attach = {.argsz = 12, .pt_id = alloc.id};
    need(ioctl(device, 0x3b77, &attach) == 0, "ATTACH");

    volatile uint8_t *bar = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_SHARED, device, 0);
    need(bar != MAP_FAILED, "mmap BAR 0");
    need(*(volatile uint32_t *)bar == 0x010000ed, "identification");
    *(volatile uint32_t *)(bar + 4) = 0x12345678;
    need(*(volatile uint32_t *)(bar + 4) == ~0x12345678u, "liveness");

    uint16_t command;
    need(pread(device, &command, 2, (7ull << 40) + 4) == 2, "read the command register");
    command |= 6;
    need(pwrite(device, &command, 2, (7ull << 40) + 4) == 2, "write the command register");

    char *memory = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    need(memory != MAP_FAILED, "memory");
    struct map map = {.size = sizeof map, .flags = 7, .ioas = alloc.id, .va = (uintptr_t)memory, .length = 8192, .iova = 0x10000};
    need(ioctl(iommufd, 0x3b85, &map) == 0, "IOAS_MAP");
    uint64_t address[2];
    for (int page = 0; page < 2; page++) {
        struct get_pa get_pa = {.size = sizeof get_pa, .ioas = alloc.id, .iova = 0x10000 + 4096 * page, .length = 4096};
        if (ioctl(iommufd, 0x3b95, &get_pa) == 0)
            address[page] = get_pa.phys;
        else
            address[page] = get_pa.iova; // behind an IOMMU
    }

    int event = eventfd(0, EFD_NONBLOCK);
    struct irqs irqs = {.argsz = sizeof irqs, .flags = 0x24, .index = 1, .count = 1, .event = event};
    need(ioctl(device, 0x3b6e, &irqs) == 0, "SET_IRQS");
    for (int direction = 0; direction < 2; direction++) {
        if (direction == 0)
            strcpy(memory, "there and back");
        *(volatile uint64_t *)(bar + 0x80) = direction == 0 ? address[0] : 0x40000;
        *(volatile uint64_t *)(bar + 0x88) = direction == 0 ? 0x40000 : address[1];
        *(volatile uint64_t *)(bar + 0x90) = 15;
        *(volatile uint32_t *)(bar + 0x98) = 1 | direction << 1 | 4;
        struct pollfd wait = {.fd = event, .events = POLLIN};
        need(poll(&wait, 1, 10000) == 1, "interrupt");
        uint64_t count;
        need(read(event, &count, 8) == 8 && count == 1, "one interrupt");
        *(volatile uint32_t *)(bar + 0x64) = *(volatile uint32_t *)(bar + 0x24);
    }
    printf("%s\n", memory + 4096);
    if (argc > 2) {
        // To memory that the device was never given.
        *(volatile uint64_t *)(bar + 0x80) = 0x40000;
        *(volatile uint64_t *)(bar + 0x88) = 0x7000000;
        *(volatile uint32_t *)(bar + 0x98) = 3;
    }
    struct unmap unmap = {.size = sizeof unmap, .ioas = alloc.id, .iova = 0x10000, .length = 8192};
    need(ioctl(iommufd, 0x3b86, &unmap) == 0, "IOAS_UNMAP");
    munmap((void *)bar, 0x1000);
    close(device);
    close(iommufd);
    return 0;
}
