// Loads a library that makes ioctls by itself: in a thread that was there before the first node was opened, after fork, after exec.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int (*alloc)(int), (*alloc_made)(int), (*any)(int, unsigned long, void *);
static int iommufd;
static sem_t opened;

static void need(int ok, const char *what) {
    if (!ok) {
        fprintf(stderr, "%s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void *early(void *unused) {
    sem_wait(&opened);
    need(alloc(iommufd) > 0, "in an early thread");
    return unused;
}

int main(int argc, char **argv) {
    void *library = dlopen(argv[1], RTLD_NOW);
    need(library != NULL, "dlopen");
    alloc = dlsym(library, "library_alloc");
    alloc_made = dlsym(library, "library_alloc_made");
    any = dlsym(library, "library_ioctl");
    // Without the machine's library under it, nothing answers here.
    if (argc > 2 && strcmp(argv[2], "alone") == 0)
        return alloc(0);
    pthread_t thread;
    sem_init(&opened, 0, 0);
    pthread_create(&thread, NULL, early, NULL);
    need(syscall(SYS_io_uring_setup, 0, NULL) == -1 && (argc > 2 || errno != ENOSYS), "io_uring as the host has it");
    iommufd = open("/dev/iommu", O_RDWR);
    need(iommufd >= 0, "open");
    need(alloc(iommufd) > 0 && alloc_made(iommufd) > 0, "ioctls of a library");
    need(alloc(-1) == -EBADF && alloc(0) == -ENOTTY, "as the host answers them");
    need(any(iommufd, 0x3bff, NULL) == -ENOTTY && any(0, 0x5401, NULL) == -ENOTTY, "others");
    need(syscall(SYS_io_uring_setup, 1, NULL) == -1 && errno == ENOSYS, "io_uring is not there");
    sem_post(&opened);
    pthread_join(thread, NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(alloc(iommufd) > 0 ? 0 : 1);
    int status;
    need(waitpid(child, &status, 0) == child && status == 0, "after fork");
    if (argc > 2) {
        puts("loaded");
        fflush(stdout);
        return 0;
    }
    // A program without the machine's library is ended.
    if (fork() == 0) {
        char *none[] = {NULL};
        execve(argv[0], (char *[]){argv[0], argv[1], "alone", NULL}, none);
    }
    need(wait(&status) > 0 && WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS, "without the library");
    execl(argv[0], argv[0], argv[1], "again", NULL);
    need(0, "exec");
}
