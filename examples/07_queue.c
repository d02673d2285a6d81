/* A queue carries messages from the processes that put to the processes that get, in order, each to one. When
   the writer closes it, the reader gets what is still in it and is then told that there will be no more. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <string.h>

static const char *const words[] = {"one", "two", "three", "four", "five"};

static int write_words(void *arg) {
    mproc_queue *queue = (mproc_queue *)arg;
    for (int i = 0; i < 5; i++) {
        printf("writer puts %s\n", words[i]);
        if (mproc_queue_put(queue, words[i], strlen(words[i]), MPROC_FOREVER) != 0) return 1;
    }
    return mproc_queue_close(queue) == 0 ? 0 : 1;
}

static int read_words(void *arg) {
    mproc_queue *queue = (mproc_queue *)arg;
    char word[16];
    int right = 0;
    ssize_t size;
    while ((size = mproc_queue_get(queue, word, sizeof word - 1, MPROC_FOREVER)) >= 0) {
        word[size] = '\0';
        printf("reader gets %s\n", word);
        if (right < 5 && strcmp(word, words[right]) == 0) right++;
    }
    printf("reader is told: %s\n", mproc_strerror((int)size));
    return size == MPROC_ECLOSED ? right : 100;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);        /* so that the lines of the two come in turn, into a pipe too */
    mproc_queue *queue = mproc_queue_new(2); /* two messages at most: a fast writer waits for the reader */
    if (!queue) return perror("mproc_queue_new"), 1;
    mproc_process writer = {.target = write_words, .arg = queue};
    mproc_process reader = {.target = read_words, .arg = queue};
    if (mproc_process_start(&writer) != 0 || mproc_process_start(&reader) != 0) return 1;
    if (mproc_process_join(&writer, 10.0) != 0 || mproc_process_join(&reader, 10.0) != 0) return 1;
    mproc_queue_free(queue);
    return writer.exitcode == 0 && reader.exitcode == 5 ? 0 : 1;
}
