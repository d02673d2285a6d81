/* A process with arguments: fill in the function it is to run and the one argument it gets, start it, join
   it. Several arguments travel as a struct. The child has a copy of it, as it was at start. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <unistd.h>

struct greeting {
    const char *name;
    int times;
};

static int greet(void *arg) {
    const struct greeting *g = (const struct greeting *)arg;
    for (int i = 0; i < g->times; i++)
        printf("%s, pid %ld: hello %s\n", mproc_current_process()->name, (long)getpid(), g->name);
    return g->times; /* becomes the exit code */
}

int main(void) {
    struct greeting greetings[] = {{"Ada", 1}, {"Grace", 2}, {"Edsger", 3}};
    mproc_process processes[3] = {{0}};
    int held = 1;

    for (int i = 0; i < 3; i++) {
        processes[i].target = greet;
        processes[i].arg = &greetings[i];
        int error = mproc_process_start(&processes[i]); /* all three run from here on */
        if (error) return fprintf(stderr, "start: %s\n", mproc_strerror(error)), 1;
    }
    for (int i = 0; i < 3; i++) {
        int error = mproc_process_join(&processes[i], 10.0); /* wait for its end */
        printf("%s ended with exit code %d\n", processes[i].name, processes[i].exitcode);
        if (error || processes[i].exitcode != greetings[i].times) held = 0;
        mproc_process_close(&processes[i]);
    }
    return held ? 0 : 1;
}
