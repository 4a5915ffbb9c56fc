// Links that are not in the machine's tree lead into it, whoever made them.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NODE "/dev/vfio/devices/noiommu-vfio0"
#define DEVICE "0000:42:00.0"
#define DEVICES "/sys/bus/pci/devices"

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

struct info { uint32_t argsz, flags, num_regions, num_irqs, cap_offset, pad; };

static void is_node(const char *path) {
    struct stat seen;
    struct statx more;
    need(stat(path, &seen) == 0 && S_ISCHR(seen.st_mode), path);
    need(statx(AT_FDCWD, path, 0, STATX_BASIC_STATS, &more) == 0 && S_ISCHR(more.stx_mode), path);
    need(access(path, R_OK | W_OK) == 0, path);
    int file = open(path, O_RDWR);
    struct info info = {.argsz = sizeof info};
    // A device that is not bound is refused in the machine's way; the host's file knows no such command.
    need(file >= 0 && ioctl(file, 0x3b6b, &info) == -1 && errno == EINVAL, path);
    close(file);
}

static void is_vendor(const char *path) {
    char line[16] = "";
    FILE *stream = fopen(path, "r");
    need(stream && fgets(line, sizeof line, stream) && strcmp(line, "0x1234\n") == 0, path);
    fclose(stream);
    int file = open(path, O_RDONLY);
    need(file >= 0 && read(file, line, sizeof line) == 7, path);
    close(file);
}

static void lists_device(DIR *directory, const char *what) {
    struct dirent *entry;
    int found = 0;
    need(directory != NULL, what);
    while ((entry = readdir(directory)))
        found |= strcmp(entry->d_name, DEVICE) == 0;
    closedir(directory);
    need(found, what);
}

static int walked;
static int walk(const char *path, const struct stat *seen, int kind, struct FTW *where) {
    (void)seen, (void)kind, (void)where;
    walked |= strstr(path, DEVICE) != NULL;
    return 0;
}

int main(int argc, char **argv) {
    char text[PATH_MAX];
    struct stat seen;
    need(argc == 2 && chdir(argv[1]) == 0, "a folder to work in");
    need(symlink(NODE, "node") == 0 && symlink("node", "again") == 0, "symlink");
    is_node("node");
    is_node("again");
    struct open_how how = {.flags = O_RDWR};
    int file = syscall(SYS_openat2, AT_FDCWD, "node", &how, sizeof how);
    need(file >= 0, "openat2");
    close(file);
    how.resolve = RESOLVE_NO_SYMLINKS;
    need(syscall(SYS_openat2, AT_FDCWD, "node", &how, sizeof how) == -1 && errno == ELOOP, "RESOLVE_NO_SYMLINKS");
    need(lstat("node", &seen) == 0 && S_ISLNK(seen.st_mode), "lstat");
    ssize_t length = readlink("node", text, sizeof text);
    need(length == strlen(NODE) && memcmp(text, NODE, length) == 0, "readlink");
    need(realpath("again", text) && strcmp(text, NODE) == 0, "realpath");
    need(open("node", O_RDWR | O_NOFOLLOW) < 0 && errno == ELOOP, "O_NOFOLLOW");
    // A relative one, and one below a directory that is a link.
    char up[PATH_MAX] = "";
    need(getcwd(text, sizeof text) != NULL, "getcwd");
    for (char *slash = text; (slash = strchr(slash, '/')); slash++)
        strcat(up, "../");
    char relative[2 * PATH_MAX];
    snprintf(relative, sizeof relative, "%s%s", up, NODE + 1);
    need(symlink(relative, "relative") == 0, "symlink");
    is_node("relative");
    need(mkdir("below", 0700) == 0 && symlink("../below", "below/here") == 0 && symlink("../node", "below/up") == 0, "links");
    is_node("below/here/up");
    int folder = open("below", O_RDONLY | O_DIRECTORY);
    need(folder >= 0 && fstatat(folder, "up", &seen, 0) == 0 && S_ISCHR(seen.st_mode), "fstatat");
    file = openat(folder, "up", O_RDWR);
    need(file >= 0, "openat");
    close(file);
    close(folder);
    // A directory that the host has, too.
    need(symlink(DEVICES, "devices") == 0 && symlink("devices/" DEVICE "/vendor", "vendor") == 0, "links");
    is_vendor("devices/" DEVICE "/vendor");
    is_vendor("vendor");
    lists_device(opendir("devices"), "opendir");
    folder = open("devices", O_RDONLY | O_DIRECTORY);
    need(folder >= 0 && fstatat(folder, DEVICE "/vendor", &seen, 0) == 0, "fstatat");
    lists_device(fdopendir(folder), "fdopendir");
    glob_t found;
    need(glob("devices/*:42:*", 0, NULL, &found) == 0 && strcmp(found.gl_pathv[0], "devices/" DEVICE) == 0, "glob");
    globfree(&found);
    need(nftw("devices", walk, 8, 0) == 0 && walked, "nftw");
    need(chdir("devices") == 0 && access(DEVICE, F_OK) == 0, "chdir");
    need(getcwd(text, sizeof text) && strcmp(text, DEVICES) == 0, text);
    // A file that the host has, too, for who may write to it.
    need(chdir(argv[1]) == 0 && symlink("/sys/bus/pci/drivers_probe", "probe") == 0, "links");
    file = open("probe", O_WRONLY);
    need(file >= 0 && write(file, DEVICE, strlen(DEVICE)) == strlen(DEVICE), "the machine's drivers_probe");
    close(file);
    // What the host does not have stays so.
    need(symlink("nowhere", "dangling") == 0 && symlink("loop", "loop") == 0, "links");
    need(open("dangling", O_RDONLY) < 0 && errno == ENOENT, "dangling");
    need(open("loop", O_RDONLY) < 0 && errno == ELOOP, "loop");
    need(fopen("dangling", "r") == NULL && errno == ENOENT, "fopen");
    need(symlink("/dev/vfio/devices/none", "none") == 0 && open("none", O_RDWR) < 0 && errno == ENOENT, "none");
    printf("linked\n");
}
