/* 24_word_count [DIR] - counts the words of all files below DIR (default: /usr/include/linux/netfilter)

   Map and merge: each file is counted by a worker of a pool, and the counts are put together in the order of
   the names. A word may begin at the end of one file and go on in the next, so a count also remembers how its
   file begins and ends. The sum is what  find DIR -type f -print0 | sort -z | xargs -0 cat | wc -w  prints: a
   word is what stands between white space. (In the C locale some versions of wc pass over words that have no
   ASCII character.) */
#define _FILE_OFFSET_BITS 64
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct count {
    unsigned long words;
    bool any;             /* not an empty file */
    bool begins_in_space; /* the first byte of all */
    bool ends_in_space;   /* the last one */
};

static const char **paths; /* filled before the pool is made: the workers have them too */
static size_t path_count;

static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

static void add_text(struct count *c, const char *text, size_t size) {
    if (size == 0) return;
    bool after_space = c->any ? c->ends_in_space : true;
    if (!c->any) c->begins_in_space = is_space(text[0]);
    for (size_t i = 0; i < size; i++) {
        bool space = is_space(text[i]);
        if (after_space && !space) c->words++;
        after_space = space;
    }
    c->any = true;
    c->ends_in_space = after_space;
}

/* Two texts, one after the other: a word that goes over the seam was counted in both. */
static void merge(struct count *c, const struct count *next) {
    if (!next->any) return;
    c->words += next->words;
    if (c->any && !c->ends_in_space && !next->begins_in_space) c->words--;
    if (!c->any) c->begins_in_space = next->begins_in_space;
    c->ends_in_space = next->ends_in_space;
    c->any = true;
}

static int count_file(const char *path, struct count *c) {
    static char text[65536];
    ssize_t n;
    memset(c, 0, sizeof *c);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    while ((n = read(fd, text, sizeof text)) > 0) add_text(c, text, (size_t)n);
    int error = n < 0 ? errno : 0;
    close(fd);
    return error;
}

static int count_task(const void *arg, void *result) {
    return count_file(*(const char *const *)arg, (struct count *)result);
}

static int add_path(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)at;
    if (type == FTW_DNR || type == FTW_NS) return fprintf(stderr, "%s: cannot be read\n", path), 1;
    if (!S_ISREG(st->st_mode)) return 0;
    if ((path_count & (path_count - 1)) == 0) {
        size_t capacity = path_count ? 2 * path_count : 1;
        const char **larger = (const char **)realloc(paths, capacity * sizeof *paths);
        if (!larger) return 1;
        paths = larger;
    }
    paths[path_count] = strdup(path);
    return paths[path_count++] ? 0 : 1;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool count_with_pool(struct count *total) {
    mproc_pool_options options = {.progress = "counting"};
    mproc_pool *pool = mproc_pool_new_with(&options);
    struct count *counts =
        mproc_array_new(struct count, path_count); /* shared: results are written in place */
    if (!pool || !counts) return perror("pool or array"), false;
    int error = mproc_pool_map(pool, count_task, paths, path_count, sizeof *paths, counts, sizeof *counts);
    if (error) fprintf(stderr, "map: %s\n", mproc_strerror(error));
    for (size_t i = 0; i < path_count; i++) merge(total, &counts[i]);
    mproc_pool_free(pool);
    mproc_free(counts);
    return error == 0;
}

static bool count_alone(struct count *total) {
    for (size_t i = 0; i < path_count; i++) {
        struct count c;
        int error = count_file(paths[i], &c);
        if (error) return fprintf(stderr, "%s: %s\n", paths[i], strerror(error)), false;
        merge(total, &c);
    }
    return true;
}

int main(int argc, char **argv) {
    static const char usual[] = "/usr/include/linux/netfilter";
    const char *dir = argc > 1 ? argv[1] : access(usual, X_OK) == 0 ? usual : ".";
    struct count with_pool = {0, false, false, false}, alone = with_pool;
    if (nftw(dir, add_path, 32, FTW_PHYS) != 0 || path_count == 0)
        return fprintf(stderr, "%s: no files\n", dir), 1;
    qsort(paths, path_count, sizeof *paths, by_name);

    if (!count_with_pool(&with_pool) || !count_alone(&alone)) return 1;
    printf("%lu words in %zu files below %s; one process alone counts %lu\n", with_pool.words, path_count,
           dir, alone.words);

    while (path_count > 0) free((void *)(uintptr_t)paths[--path_count]);
    free(paths);
    return with_pool.words == alone.words ? 0 : 1;
}
