// Walks by fts: the machine is seen, and what the library does in libc's place comes to what libc does.
#include <errno.h>
#include <fts.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static int by_name(const FTSENT **one, const FTSENT **other) { return strcmp((*one)->fts_name, (*other)->fts_name); }

// What a walk comes to in text, up to the entry `last`; the program interferes at some names.
static void walk(char **paths, int options, char *text) {
    FTS *walk = fts_open(paths, options, by_name);
    need(walk != NULL, "fts_open");
    for (FTSENT *it = fts_children(walk, 0); it; it = it->fts_link)
        if (strcmp(it->fts_name, "/dev/iommu"))
            text += sprintf(text, "given %s\n", it->fts_name);
    for (FTSENT *it; (it = fts_read(walk));) {
        if (!strcmp(it->fts_name, "iommu"))
            continue;
        text += sprintf(text, "%d %d %s %s %d %d %s", it->fts_info, it->fts_level, it->fts_name, it->fts_path, it->fts_pathlen, it->fts_namelen, it->fts_parent->fts_name);
        if (it->fts_info != FTS_NSOK && it->fts_info != FTS_NS)
            text += sprintf(text, " %lo %d", (long)it->fts_statp->st_mode, !S_ISDIR(it->fts_statp->st_mode) || it->fts_statp->st_ino == it->fts_ino);
        if (it->fts_info == FTS_DC)
            text += sprintf(text, " %s", it->fts_cycle->fts_name);
        text += sprintf(text, "\n");
        if (!strcmp(it->fts_name, "skipped"))
            fts_set(walk, it, FTS_SKIP);
        if (!strcmp(it->fts_name, "followed") && (it->fts_info == FTS_SL || it->fts_info == FTS_SLNONE) && !it->fts_number++)
            fts_set(walk, it, FTS_FOLLOW);
        if (!strcmp(it->fts_name, "again") && !it->fts_number++)
            fts_set(walk, it, FTS_AGAIN);
        if (!strcmp(it->fts_name, "asked") && it->fts_info == FTS_D)
            for (FTSENT *child = fts_children(walk, 0); child; child = child->fts_link) {
                text += sprintf(text, "child %s %d\n", child->fts_name, child->fts_info);
                if (!strcmp(child->fts_name, "unwanted"))
                    fts_set(walk, child, FTS_SKIP);
            }
    }
    sprintf(text, "end %d\n", errno);
    need(fts_close(walk) == 0, "fts_close");
}

int main(void) {
    char top[] = "/tmp/ioasis-fts-XXXXXX", path[200];
    need(mkdtemp(top) != NULL && chdir(top) == 0, "a folder");
    const char *folders[] = {"a", "a/asked", "a/asked/unwanted", "a/asked/wanted", "b", "b/skipped", "b/skipped/below", "c"};
    for (unsigned at = 0; at < sizeof folders / sizeof *folders; at++)
        need(mkdir(folders[at], 0755) == 0, folders[at]);
    const char *files[] = {"a/again", "a/asked/unwanted/file", "a/asked/wanted/file", "b/skipped/file", "c/file"};
    for (unsigned at = 0; at < sizeof files / sizeof *files; at++)
        need(close(open(files[at], O_CREAT | O_WRONLY, 0600)) == 0, files[at]);
    need(symlink("../c", "b/followed") == 0 && symlink("nowhere", "b/dangling") == 0 && symlink("../a", "a/around") == 0, "links");

    int options[] = {FTS_PHYSICAL, FTS_LOGICAL, FTS_PHYSICAL | FTS_NOCHDIR, FTS_PHYSICAL | FTS_SEEDOT, FTS_PHYSICAL | FTS_XDEV, FTS_LOGICAL | FTS_NOCHDIR, FTS_PHYSICAL | FTS_COMFOLLOW};
    for (unsigned at = 0; at < sizeof options / sizeof *options; at++) {
        static char libcs[1 << 16], ours[1 << 16];
        snprintf(path, sizeof path, "%s/b/followed", top);
        walk((char *[]){"a", top, path, "c/file", "missing", NULL}, options[at], libcs);
        walk((char *[]){"a", top, path, "c/file", "missing", "/dev/iommu", NULL}, options[at], ours);
        if (strcmp(libcs, ours)) {
            printf("with options %#x, libc:\n%s\nunder the machine:\n%s\n", options[at], libcs, ours);
            exit(1);
        }
    }
    need(fts_open((char *[]){"/dev/vfio", NULL}, 0x1000, NULL) == NULL && errno == EINVAL, "options that there are not");

    int nodes = 0, directories = 0;
    FTS *walk = fts_open((char *[]){"/dev/vfio", NULL}, FTS_PHYSICAL, NULL);
    need(walk != NULL, "fts_open of /dev/vfio");
    for (FTSENT *it; (it = fts_read(walk));) {
        need(strncmp(it->fts_path, "/dev/vfio", 9) == 0, it->fts_path);
        nodes += it->fts_info == FTS_DEFAULT && S_ISCHR(it->fts_statp->st_mode);
        directories += it->fts_info == FTS_D;
    }
    need(fts_close(walk) == 0 && nodes >= 2 && directories == 2, "the nodes of the machine");
    printf("walked\n");
    fflush(stdout);
    execlp("rm", "rm", "-r", top, NULL);
}
