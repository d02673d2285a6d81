/* Many processes write into one file. Each entry is appended whole, so no two get mixed up, though all four
   workers write at once and no entry says where it goes. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TASKS   20
#define ENTRIES 50 /* that each task appends */

static mproc_file *book; /* opened before the workers were made: each has it, as a handle of its own */

static int append_entries(const void *arg, void *result) {
    int first = *(const int *)arg;
    (void)result;
    for (int i = first; i < first + ENTRIES; i++) {
        char entry[80];
        int size = snprintf(entry, sizeof entry, "Subscriber %04d: +49 30 %07d\n", i, i * 7919 % 10000000);
        int error = mproc_file_append(book, entry, (size_t)size);
        if (error) return error;
    }
    return 0;
}

/* Counts the entries that are whole; false if one is not, or stands there twice. */
static bool check(const char *path, int *count) {
    static bool seen[TASKS * ENTRIES];
    char line[80];
    FILE *f = fopen(path, "re");
    if (!f) return false;
    bool whole = true;
    while (whole && fgets(line, sizeof line, f)) {
        int i = -1, number = -1;
        whole = sscanf(line, "Subscriber %4d: +49 30 %7d", &i, &number) == 2 && strlen(line) == 32 &&
                i >= 0 && i < TASKS * ENTRIES && number == i * 7919 % 10000000 && !seen[i];
        if (whole) seen[i] = true, ++*count;
    }
    fclose(f);
    return whole;
}

static bool run(const char *path) {
    int first[TASKS], count = 0;
    for (int i = 0; i < TASKS; i++) first[i] = i * ENTRIES;
    book = mproc_file_open(path);
    mproc_pool *pool = book ? mproc_pool_new(4) : NULL;
    if (!pool) return false;
    int error = mproc_pool_map(pool, append_entries, first, TASKS, sizeof first[0], NULL, 0);
    mproc_pool_free(pool);
    mproc_file_close(book);
    if (error) fprintf(stderr, "map: %s\n", mproc_strerror(error));
    bool whole = check(path, &count);
    printf("%d workers appended %d entries, %s\n", 4, count,
           whole ? "each of them whole" : "and one is not whole");
    return error == 0 && whole && count == TASKS * ENTRIES;
}

int main(void) {
    const char *tmp = getenv("TMPDIR");
    char folder[512], path[600];
    snprintf(folder, sizeof folder, "%s/phones.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(folder)) return perror(folder), 1;
    snprintf(path, sizeof path, "%s/phone_book.txt", folder);
    bool held = run(path);
    unlink(path);
    if (rmdir(folder) != 0) return perror(folder), 1;
    return held ? 0 : 1;
}
