// What the functions of libc that walk directories see: the machine beside the host, by the names that the program knows.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define ATTRIBUTE "/sys/module/iommufd/parameters/allow_unsafe_interrupts"

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static int nodes, directories, links;

static int visit(const char *path, const struct stat *stat, int kind, struct FTW *where) {
    need(strncmp(path, "/dev/vfio", 9) == 0, path);
    need(strchr(path + where->base, '/') == NULL && path[where->base - 1] == '/', "base");
    if (S_ISCHR(stat->st_mode) && major(stat->st_rdev) == 511)
        nodes++;
    if (kind == FTW_D)
        directories++;
    need(where->level <= 2, "level");
    return 0;
}

static int visit_device(const char *path, const struct stat *stat, int kind, struct FTW *where) {
    (void)stat;
    (void)where;
    need(strncmp(path, "/sys/devices/pci0000:42/0000:42:00.0", 36) == 0, path);
    if (kind == FTW_SL)
        links++;
    return 0;
}

static int here;

static int visit_here(const char *path, const struct stat *known, int kind, struct FTW *where) {
    struct stat found;
    need(lstat(path + where->base, &found) == 0 && found.st_ino == known->st_ino && kind <= FTW_D, "a name, from its directory");
    need(strncmp(path, "devices", 7) == 0, path);
    here++;
    return 0;
}

static int visit_root(const char *path, const struct stat *known, int kind, struct FTW *where) {
    (void)known;
    if (strcmp(path, "./dev/iommu") == 0)
        return 7;
    return kind == FTW_D && where->level == 1 && strcmp(path, "./dev") != 0 ? FTW_SKIP_SUBTREE : FTW_CONTINUE;
}

static int visit_plain(const char *path, const struct stat *stat, int kind) {
    (void)stat;
    return kind == FTW_F && strcmp(path, "/sys/bus/pci/devices/0000:42:00.0/vendor") == 0 ? 7 : 0;
}

static int is_node(const struct dirent *entry) {
    return entry->d_type == DT_CHR;
}

int main(void) {
    glob_t found;
    need(glob("/dev/vfio/devices/*vfio*", 0, NULL, &found) == 0 && found.gl_pathc == 1, "glob");
    need(strncmp(found.gl_pathv[0], "/dev/vfio/devices/", 18) == 0, found.gl_pathv[0]);
    globfree(&found);
    need(glob("/sys/bus/pci/devices/0000:42:*/vfio-dev/*", GLOB_MARK, NULL, &found) == 0 && found.gl_pathc == 1, "glob of links");
    need(found.gl_pathv[0][strlen(found.gl_pathv[0]) - 1] == '/', "a directory");
    globfree(&found);
    need(glob("/dev/vfio/nothing*", 0, NULL, &found) == GLOB_NOMATCH, "glob of nothing");

    struct dirent **list;
    int count = scandir("/dev/vfio/devices", &list, is_node, alphasort);
    need(count == 1 && strstr(list[0]->d_name, "vfio0"), "scandir");
    free(list[0]);
    free(list);
    need(scandir("/dev/vfio/nothing", &list, NULL, NULL) == -1 && errno == ENOENT, "scandir of nothing");

    need(nftw("/dev/vfio", visit, 8, FTW_PHYS) == 0, "nftw");
    need(nodes >= 1 && directories == 2, "what nftw saw");
    need(nftw("/sys/devices/pci0000:42/0000:42:00.0", visit_device, 8, FTW_PHYS | FTW_DEPTH) == 0 && links >= 2, "nftw of links");
    need(ftw("/sys/bus/pci/devices/0000:42:00.0", visit_plain, 8) == 7, "ftw ends where it is told to");

    need(chdir("/dev/vfio") == 0 && nftw("devices", visit_here, 8, FTW_PHYS | FTW_CHDIR) == 0 && here == 2, "nftw that goes along");
    need(strcmp(getcwd(NULL, 0), "/dev/vfio") == 0 && chdir("/") == 0, "back again");
    need(nftw(".", visit_root, 8, FTW_PHYS | FTW_ACTIONRETVAL) == 7, "nftw from the root");

    int root = open("/", O_RDONLY | O_DIRECTORY), iommu_below = openat(root, "dev/iommu", O_RDWR);
    need(iommu_below >= 0 && access("dev/iommu", R_OK) == 0 && access("./dev//iommu", R_OK) == 0, "from the root");
    close(iommu_below);
    close(root);

    // Kinds of entries, of the machine and of the host, and what is below the directory's descriptor.
    DIR *dev = opendir("/dev");
    need(dev != NULL, "opendir");
    int iommu = 0, null = 0, vfio = 0;
    for (struct dirent *entry; (entry = readdir(dev));) {
        iommu |= strcmp(entry->d_name, "iommu") == 0 && entry->d_type == DT_CHR;
        null |= strcmp(entry->d_name, "null") == 0 && entry->d_type == DT_CHR;
        vfio |= strcmp(entry->d_name, "vfio") == 0 && entry->d_type == DT_DIR;
    }
    need(iommu && null && vfio, "kinds of entries");
    struct stat stat;
    need(fstatat(dirfd(dev), "null", &stat, AT_SYMLINK_NOFOLLOW) == 0 && S_ISCHR(stat.st_mode), "null");
    int below = openat(dirfd(dev), "vfio", O_RDONLY | O_DIRECTORY);
    need(below >= 0, "openat");
    closedir(dev);
    DIR *directory = fdopendir(below);
    need(directory != NULL, "fdopendir");
    int devices = 0;
    for (struct dirent *entry; (entry = readdir(directory));)
        devices |= strcmp(entry->d_name, "devices") == 0;
    need(devices, "what fdopendir lists");
    closedir(directory);

    // Streams.
    int attribute = open(ATTRIBUTE, O_RDONLY);
    FILE *stream = fdopen(attribute, "r");
    char line[16];
    need(stream && fgets(line, sizeof line, stream) && strcmp(line, "N\n") == 0, "fdopen");
    need(freopen("/dev/null", "r", stream) == stream && fgets(line, sizeof line, stream) == NULL, "freopen from an attribute");
    fclose(stream);
    stream = freopen("/dev/null", "r", stdin);
    need(stream && fgets(line, sizeof line, stream) == NULL, "freopen");
    stream = freopen("/sys/bus/pci/devices/0000:42:00.0/vendor", "r", stream);
    need(stream && fgets(line, sizeof line, stream) && strcmp(line, "0x1234\n") == 0, "freopen on a file of the tree");
    need(freopen(ATTRIBUTE, "r", stream) && fgets(line, sizeof line, stream) && strcmp(line, "N\n") == 0, "freopen on an attribute");
    puts("listed");
    return 0;
}
