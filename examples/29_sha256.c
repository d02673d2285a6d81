/* 29_sha256 [DIR] - the SHA-256 of each file below DIR, in the format of sha256sum

       29_sha256 DIR > sums; sha256sum -c sums

   A pool computes the sums; imap gives them in the order of the names, each as soon as it and those before it
   are there, while the workers are busy with the next ones. The example then has sha256sum check the list,
   where that is installed. Without DIR it takes /usr/include/linux and prints the first few sums only. */
#define _FILE_OFFSET_BITS 64
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- SHA-256, as FIPS 180-4 has it --------------------------------------------------------------------- */

struct sha256 {
    uint32_t state[8];
    uint64_t size; /* bytes so far */
    unsigned char block[64];
};

static const uint32_t round_constants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

static void sha256_block(struct sha256 *s) {
    uint32_t w[64], v[8];
    for (int i = 0; i < 16; i++) {
        const unsigned char *b = s->block + 4 * i;
        w[i] = (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
    }
    for (int i = 16; i < 64; i++) {
        uint32_t x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + (rotate(x, 7) ^ rotate(x, 18) ^ x >> 3) + w[i - 7] +
               (rotate(y, 17) ^ rotate(y, 19) ^ y >> 10);
    }
    memcpy(v, s->state, sizeof v);
    for (int i = 0; i < 64; i++) { /* v[0] to v[7] are the standard's a to h */
        uint32_t e = v[4], a = v[0];
        uint32_t t = v[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & v[5]) ^ (~e & v[6])) +
                     round_constants[i] + w[i];
        uint32_t u =
            (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & v[1]) ^ (a & v[2]) ^ (v[1] & v[2]));
        memmove(v + 1, v, 7 * sizeof v[0]);
        v[4] += t;
        v[0] = t + u;
    }
    for (int i = 0; i < 8; i++) s->state[i] += v[i];
}

static void sha256_start(struct sha256 *s) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->state, start, sizeof start);
    s->size = 0;
}

static void sha256_add(struct sha256 *s, const void *data, size_t size) {
    const unsigned char *p = (const unsigned char *)data;
    while (size > 0) {
        size_t at = s->size % 64, n = 64 - at < size ? 64 - at : size;
        memcpy(s->block + at, p, n);
        s->size += n;
        p += n;
        size -= n;
        if (s->size % 64 == 0) sha256_block(s);
    }
}

static void sha256_end(struct sha256 *s, unsigned char sum[32]) {
    static const unsigned char padding[64] = {0x80};
    unsigned char bits[8];
    for (int i = 0; i < 8; i++) bits[i] = (unsigned char)(s->size * 8 >> (56 - 8 * i));
    sha256_add(s, padding, 1 + (119 - s->size % 64) % 64);
    sha256_add(s, bits, sizeof bits);
    for (int i = 0; i < 32; i++) sum[i] = (unsigned char)(s->state[i / 4] >> (24 - i % 4 * 8));
}

/* ---- The task ------------------------------------------------------------------------------------------ */

struct sum {
    unsigned char byte[32];
};

static int sum_file(const void *arg, void *result) {
    static unsigned char data[65536];
    struct sha256 s;
    ssize_t n;
    int fd = open(*(const char *const *)arg, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return errno;
    sha256_start(&s);
    while ((n = read(fd, data, sizeof data)) > 0) sha256_add(&s, data, (size_t)n);
    int error = n < 0 ? errno : 0;
    close(fd);
    sha256_end(&s, ((struct sum *)result)->byte);
    return error;
}

/* ---- The tree ------------------------------------------------------------------------------------------ */

static const char **paths; /* filled before the pool is made: the workers have them too */
static size_t path_count;

static int add_path(const char *path, const struct stat *st, int type, struct FTW *at) {
    (void)at;
    if (type == FTW_DNR || type == FTW_NS) return fprintf(stderr, "%s: cannot be read\n", path), 1;
    if (!S_ISREG(st->st_mode)) return 0;
    if ((path_count & (path_count - 1)) == 0) { /* doubles at each power of two */
        const char **larger =
            (const char **)realloc(paths, (path_count ? 2 * path_count : 1) * sizeof *paths);
        if (!larger) return 1;
        paths = larger;
    }
    paths[path_count] = strdup(path);
    return paths[path_count++] ? 0 : 1;
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* ---- The list ------------------------------------------------------------------------------------------ */

/* As sha256sum does it: a name that would not fit into a line is escaped, and a backslash before all tells.
 */
static void print_sum(FILE *out, const struct sum *sum, const char *path) {
    if (strpbrk(path, "\\\n\r")) fputc('\\', out);
    for (int i = 0; i < 32; i++) fprintf(out, "%02x", sum->byte[i]);
    fputs("  ", out);
    for (; *path; path++)
        if (*path == '\\') fputs("\\\\", out);
        else if (*path == '\n') fputs("\\n", out);
        else if (*path == '\r') fputs("\\r", out);
        else fputc(*path, out);
    fputc('\n', out);
}

/* Fills sums and prints the first ones; says false if a file could not be read. */
static bool sum_all(struct sum *sums, size_t shown) {
    mproc_pool *pool = mproc_pool_new(0);
    mproc_iter *iter = mproc_pool_imap(pool, sum_file, paths, path_count, sizeof *paths, sizeof *sums);
    if (!iter) return perror("pool or imap"), false;
    bool held = true;
    struct sum sum;
    ssize_t i;
    while ((i = mproc_iter_next(iter, &sum, MPROC_FOREVER)) != MPROC_ECLOSED) {
        size_t at = mproc_iter_index(iter);
        if (i == MPROC_EFAILED) fprintf(stderr, "%s: %s\n", paths[at], strerror(mproc_iter_code(iter)));
        else if (i < 0) fprintf(stderr, "%s: %s\n", paths[at], mproc_strerror((int)i));
        if (i < 0) held = false;
        else sums[at] = sum;
        if (i >= 0 && at < shown) print_sum(stdout, &sum, paths[at]);
        mproc_progress(stderr, "sums", at + 1, path_count);
    }
    mproc_iter_free(iter);
    mproc_pool_free(pool);
    return held;
}

static bool abc_is_right(void) {
    static const unsigned char right[4] = {0xba, 0x78, 0x16, 0xbf};
    struct sha256 s;
    struct sum sum;
    sha256_start(&s);
    sha256_add(&s, "abc", 3);
    sha256_end(&s, sum.byte);
    return memcmp(sum.byte, right, sizeof right) == 0;
}

/* Gives the list to sha256sum -c and has its OKs counted: one for each file. */
static bool check(const struct sum *sums) {
    char command[160];
    if (system("command -v sha256sum >/dev/null 2>&1") != 0)
        return fputs("sha256sum is not installed: not checked\n", stderr), true;
    snprintf(command, sizeof command, "test $(LC_ALL=C sha256sum -c - 2>/dev/null | grep -c ': OK$') -eq %zu",
             path_count);
    FILE *list = popen(command, "w");
    if (!list) return perror("popen"), false;
    for (size_t i = 0; i < path_count; i++) print_sum(list, &sums[i], paths[i]);
    bool right = pclose(list) == 0;
    fprintf(stderr, "sha256sum -c %s the list of %zu files\n", right ? "accepts" : "REJECTS", path_count);
    return right;
}

int main(int argc, char **argv) {
    static const char usual[] = "/usr/include/linux";
    const char *dir = argc > 1 ? argv[1] : access(usual, X_OK) == 0 ? usual : ".";
    if (nftw(dir, add_path, 32, FTW_PHYS) != 0 || path_count == 0)
        return fprintf(stderr, "%s: no files\n", dir), 1;
    qsort(paths, path_count, sizeof *paths, by_name);
    struct sum *sums = (struct sum *)calloc(path_count, sizeof *sums);
    bool held = sums && sum_all(sums, argc > 1 ? path_count : 3) && check(sums) && abc_is_right();
    while (path_count > 0) free((void *)(uintptr_t)paths[--path_count]);
    free(paths);
    free(sums);
    return held && fflush(stdout) == 0 ? 0 : 1;
}
