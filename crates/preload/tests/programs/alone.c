// The only thread of a process cancels itself, and ends where it reads next.
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static void tell(void *word) {
    puts(word);
}

int main(void) {
    int ends[2];
    char byte;
    if (pipe(ends) != 0 || write(ends[1], "a", 1) != 1)
        return 1;
    pthread_cleanup_push(tell, "cancelled");
    pthread_cancel(pthread_self());
    if (read(ends[0], &byte, 1) == 1)
        puts("read");
    pthread_cleanup_pop(0);
    return 1;
}
