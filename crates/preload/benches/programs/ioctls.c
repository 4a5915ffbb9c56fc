// Makes as many ioctls as it is told, line by line, and answers how many nanoseconds they took.
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <time.h>

int main(int argc, char **argv) {
    // The third is an option of IOMMUFD, which is asked for.
    uint32_t option[6] = {24};
    unsigned long command = argc > 2 ? strtoul(argv[2], NULL, 0) : 0;
    int file = open(argv[1], O_RDWR);
    char line[32];
    while (file >= 0 && fgets(line, sizeof line, stdin)) {
        struct timespec start, end;
        option[2] = 1;
        clock_gettime(CLOCK_MONOTONIC, &start);
        for (long count = atol(line); count > 0; count--)
            ioctl(file, command, option);
        clock_gettime(CLOCK_MONOTONIC, &end);
        printf("%lld\n", (end.tv_sec - start.tv_sec) * 1000000000LL + end.tv_nsec - start.tv_nsec);
        fflush(stdout);
    }
    return file < 0;
}
