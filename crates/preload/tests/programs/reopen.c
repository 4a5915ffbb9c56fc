// A stream goes from a file of the host's to one of the machine's and back, and stays the stream that it is.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEVICE "/sys/bus/pci/devices/0000:42:00.0/"
#define TEXT DEVICE "vendor"
#define PARAMETER "/sys/module/iommufd/parameters/allow_unsafe_interrupts"
#define OVERRIDE DEVICE "driver_override"

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void reads(FILE *stream, const char *words, const char *what) {
    char line[64] = "";
    need(fgets(line, sizeof line, stream) && strcmp(line, words) == 0, what);
    need(fgets(line, sizeof line, stream) == NULL && feof(stream), what);
    rewind(stream);
    need(fgets(line, sizeof line, stream) && strcmp(line, words) == 0, what);
}

static void has(const char *path, const char *words) {
    char line[64] = "";
    int file = open(path, O_RDONLY);
    need(file >= 0 && read(file, line, sizeof line - 1) >= 0 && strcmp(line, words) == 0, path);
    close(file);
}

// The same stream, on the same descriptor.
static void again(FILE *stream, const char *path, const char *mode) {
    int number = fileno(stream);
    need(freopen(path, mode, stream) == stream, path ? path : mode);
    need(fileno(stream) == number, "its number");
}

// From whatever the stream is on, all the ways there are.
static void all_ways(FILE *stream, const char *host) {
    again(stream, PARAMETER, "r");
    reads(stream, "N\n", "to an attribute");
    again(stream, "/dev/iommu", "r+");
    need(fgetc(stream) == EOF && errno == EINVAL, "to a node");
    again(stream, TEXT, "r");
    reads(stream, "0x1234\n", "to a file of the tree");
    again(stream, PARAMETER, "re");
    reads(stream, "N\n", "to an attribute again");
    need(fcntl(fileno(stream), F_GETFD) == FD_CLOEXEC, "close on exec");
    again(stream, host, "w");
    need(fputs("written\n", stream) > 0 && fflush(stream) == 0, "back to the host's");
    has(host, "written\n");
    again(stream, OVERRIDE, "w");
    need(fputs("edu\n", stream) > 0 && fflush(stream) == 0, "an attribute that is written");
    has(OVERRIDE, "edu\n");
    has(host, "written\n");
    again(stream, NULL, "r");
    reads(stream, "edu\n", "in another mode");
    need(fputs("x", stream) == EOF, "one that is only read");
    again(stream, NULL, "r+");
    reads(stream, "edu\n", "in a third");
    again(stream, host, "r");
    reads(stream, "written\n", "the host's, read");
}

int main(int argc, char **argv) {
    char host[4096];
    need(argc == 2 && snprintf(host, sizeof host, "%s/host", argv[1]) > 0, "a folder");
    FILE *stream = fopen(host, "w");
    need(stream != NULL, "fopen");
    all_ways(stream, host);
    fclose(stream);
    stream = fopen(PARAMETER, "r");
    need(stream && fileno(stream) >= 0, "a stream on an attribute has a number");
    reads(stream, "N\n", "fopen");
    all_ways(stream, host);
    fclose(stream);
    stream = fdopen(open(PARAMETER, O_RDONLY), "r");
    need(stream != NULL, "fdopen");
    all_ways(stream, host);
    fclose(stream);
    all_ways(stdin, host);
    // Standard output, which a child has, too, that libc's calls are made by.
    int out = dup(1);
    again(stdout, OVERRIDE, "w");
    printf("vfio-pci\n");
    need(fflush(stdout) == 0, "standard output");
    has(OVERRIDE, "vfio-pci\n");
    pid_t child = fork();
    if (child == 0) {
        printf("of a child\n");
        _exit(fflush(stdout) != 0);
    }
    int status;
    need(waitpid(child, &status, 0) == child && status == 0, "a child");
    has(OVERRIDE, "of a child\n");
    char back[32];
    snprintf(back, sizeof back, "/proc/self/fd/%d", out);
    again(stdout, back, "a");
    // What is refused is told.
    stream = fopen(host, "r");
    need(freopen(DEVICE "none", "r", stream) == NULL && errno == ENOENT, "what is not there");
    stream = fopen(host, "r");
    need(freopen(PARAMETER, "wx", stream) == NULL && errno == EEXIST, "what is there");
    stream = fopen(host, "r");
    again(stream, "/sys/bus/pci/drivers/vfio-pci/unbind", "w");
    need(fputs("nobody\n", stream) > 0 && fflush(stream) == EOF && errno == ENODEV, "a write that is refused");
    fclose(stream);
    system("true");
    printf("reopened\n");
}
