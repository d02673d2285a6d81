/* copy_tree [-w WORKERS] SOURCE DEST - copies the tree below SOURCE to DEST with a pool of workers

   Files, symbolic links, folders, their modes and times are copied; hard links become files of their own,
   owners are not kept. DEST is made if need be; what else stands in it stays. Fifos, sockets and devices are
   named and left out. What cannot be copied is named, the rest goes on, and the exit code is 1.

   How it works. This process walks SOURCE, makes the folders, and gives each file to the pool, at most a
   window of them ahead of the workers, so memory stays flat however large the tree. A worker writes the file
   under a temporary name beside its final one and renames it when it is whole: whatever is killed, or however
   full the disk, nothing half written ever stands under its final name. Then it reports through a queue, and
   the reports move the progress bar. A worker that was killed reports nothing; its task's future says so.

   Folders get their mode and time at the end, deepest first: a read-only folder could not be filled, and
   filling a folder changes its time. */
#define _FILE_OFFSET_BITS 64 /* files beyond 2 GiB on 32-bit machines too */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* For the progress a file weighs its bytes and this much: opening and renaming cost as much as some data. */
#define FILE_WEIGHT 16384

/* A path as long as the tree is deep may not fit into a system call; paths are relative to one of these two,
   opened before the pool is made, so that every worker has them. */
static int source_root = -1, dest_root = -1;
static char temp_prefix[48]; /* no other run has the same */

/* One file to copy, as it travels to a worker, and what the worker reports of it. */
typedef struct job {
    mproc_queue *reports; /* made after the workers: its address is good there all the same */
    uint64_t index;       /* no other file of this run has it; modulo the window's size it names the slot */
    char path[];
} job;

typedef struct report {
    uint64_t index;
    uint64_t bytes;
    int error; /* 0 or a negative errno value */
} report;

/* ---- Paths ----------------------------------------------------------------------------------------------
 */

/* Opens one step of a path: a folder, never through a symbolic link that somebody may have put there. */
static int open_step(int folder, const char *name, size_t len) {
    char step[NAME_MAX + 1];
    if (len >= sizeof step) return errno = ENAMETOOLONG, -1;
    memcpy(step, name, len);
    step[len] = '\0';
    return openat(folder, step, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

/* Opens the folder that holds path and finds path's last part. -1 and errno. */
static int open_parent(int root, const char *path, const char **name) {
    int folder = openat(root, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    const char *slash;
    while (folder >= 0 && (slash = strchr(path, '/')) != NULL) {
        int next = open_step(folder, path, (size_t)(slash - path));
        int error = errno;
        close(folder);
        errno = error;
        folder = next;
        path = slash + 1;
    }
    *name = *path ? path : ".";
    return folder;
}

/* Opens the folder that path is; "" is the root itself. -1 and errno. */
static int open_folder(int root, const char *path) {
    const char *name;
    int parent = open_parent(root, path, &name);
    if (parent < 0) return -1;
    int folder = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int error = errno;
    close(parent);
    errno = error;
    return folder;
}

static void temp_name(char *name, size_t size, uint64_t index) {
    snprintf(name, size, "%s.%llu", temp_prefix, (unsigned long long)index);
}

/* ---- Copying, in a worker -------------------------------------------------------------------------------
 */

/* Writes all of it: a write to a nearly full disk may take a part, and only the next one says why. */
static int write_all(int fd, const char *data, size_t size) {
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        data += n;
        size -= (size_t)n;
    }
    return 0;
}

static int copy_by_hand(int in, int out, uint64_t *bytes) {
    static char buffer[128 * 1024];
    for (;;) {
        ssize_t n = read(in, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return n < 0 ? -errno : 0;
        int error = write_all(out, buffer, (size_t)n);
        if (error) return error;
        *bytes += (uint64_t)n;
    }
}

/* The kernel copies as far as it will. When it stops that is the end, or a pair of file systems it cannot do,
   or a file in /proc whose size it does not know, or a real error: reading on by hand finds out which. */
static int copy_content(int in, int out, uint64_t *bytes) {
    ssize_t n;
    while ((n = copy_file_range(in, NULL, out, NULL, (size_t)1 << 30, 0)) > 0) *bytes += (uint64_t)n;
    return copy_by_hand(in, out, bytes);
}

/* Mode and time of change. A set-user-id bit is worth keeping only with its user: a program of somebody else
   copied by root must not become root's. */
static int copy_metadata(int fd, const struct stat *from) {
    struct timespec times[2] = {{0, UTIME_OMIT}, from->st_mtim};
    struct stat to;
    if (fstat(fd, &to) != 0) return -errno;
    mode_t mode = from->st_mode & 07777;
    if (to.st_uid != from->st_uid) mode &= ~(mode_t)S_ISUID;
    if (to.st_gid != from->st_gid) mode &= ~(mode_t)S_ISGID;
    if (fchmod(fd, mode) != 0 || futimens(fd, times) != 0) return -errno;
    return 0;
}

static int fill_file(int in, int out, uint64_t *bytes) {
    struct stat st;
    if (fstat(in, &st) != 0) return -errno;
    if (!S_ISREG(st.st_mode)) return -EAGAIN; /* it was one a moment ago */
    int error = copy_content(in, out, bytes);
    return error ? error : copy_metadata(out, &st);
}

/* O_NONBLOCK: should the file have become a fifo since it was listed, do not wait for a writer. */
static int copy_file(int from, const char *name, int to, const char *temp, uint64_t *bytes) {
    int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (in < 0) return -errno;
    int out = openat(to, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    int error = out < 0 ? -errno : fill_file(in, out, bytes);
    if (out >= 0 && close(out) != 0 && !error) error = -errno; /* some file systems write only now */
    close(in);
    return error;
}

static int copy_link(int from, const char *name, int to, const char *temp, const struct stat *st) {
    static char target[PATH_MAX + 1];
    ssize_t len = readlinkat(from, name, target, sizeof target);
    if (len < 0) return -errno;
    if ((size_t)len >= sizeof target) return -ENAMETOOLONG;
    target[len] = '\0';
    struct timespec times[2] = {{0, UTIME_OMIT}, st->st_mtim};
    if (symlinkat(target, to, temp) != 0 || utimensat(to, temp, times, AT_SYMLINK_NOFOLLOW) != 0)
        return -errno;
    return 0;
}

/* Copies name in the folder from to the folder to: under the temporary name, then by its own. */
static int copy_entry(int from, int to, const char *name, uint64_t index, uint64_t *bytes) {
    char temp[sizeof temp_prefix + 24];
    struct stat st;
    temp_name(temp, sizeof temp, index);
    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) != 0) return -errno;
    int error =
        S_ISLNK(st.st_mode) ? copy_link(from, name, to, temp, &st) : copy_file(from, name, to, temp, bytes);
    if (!error && renameat(to, temp, to, name) != 0) error = -errno;
    if (error) unlinkat(to, temp, 0);
    return error;
}

static int copy_path(const char *path, uint64_t index, uint64_t *bytes) {
    const char *name;
    int from = open_parent(source_root, path, &name);
    if (from < 0) return -errno;
    int to = open_parent(dest_root, path, &name);
    int error = to < 0 ? -errno : copy_entry(from, to, name, index, bytes);
    if (to >= 0) close(to);
    close(from);
    return error;
}

/* The pool's task. It fails only if it cannot report. */
static int copy_task(const void *arg, void *result) {
    const job *j = (const job *)arg;
    report r = {j->index, 0, 0};
    (void)result;
    r.error = copy_path(j->path, j->index, &r.bytes);
    return -mproc_queue_put(j->reports, &r, sizeof r, MPROC_FOREVER);
}

/* ---- The run, in the main program -----------------------------------------------------------------------
 */

typedef struct slot { /* a file given to the pool and not yet reported */
    mproc_future *future;
    uint64_t index;
    uint64_t weight;
    char *path;
    bool ended; /* the task had ended when last looked at */
} slot;

typedef struct folder { /* made; gets its mode and time at the end */
    char *path;
    struct stat st;
} folder;

static mproc_pool *pool;
static mproc_queue *reports;
static slot *window;
static size_t window_size, in_flight;
static uint64_t serial; /* files given so far */

static folder *folders;
static size_t folder_count;
static char **pending; /* folders found and not yet walked */
static size_t pending_count;

static uint64_t weight_total, weight_done, files_done, bytes_done;
static unsigned long failures, skipped;
static bool pool_broken;
static double began;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* A name is anything but a slash and a zero byte; it must not play with the terminal. */
static void print_name(const char *name) {
    for (; *name; name++) {
        unsigned char c = (unsigned char)*name;
        if (c < 0x20 || c == 0x7f) fprintf(stderr, "\\%03o", c);
        else fputc(c, stderr);
    }
}

static void complain(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void complain(const char *path, const char *format, ...) {
    va_list args;
    if (isatty(STDERR_FILENO)) fputs("\r\033[K", stderr);
    fputs("copy_tree: ", stderr);
    print_name(path);
    fputs(": ", stderr);
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputc('\n', stderr);
}

static void fail(const char *path, int error) {
    failures++;
    complain(*path ? path : ".", "%s", mproc_strerror(error));
}

static void *grow(void *array, size_t count, size_t size) {
    /* doubles at each power of two: the count is all there is to remember */
    if (count & (count - 1)) return array;
    void *larger = realloc(array, (count ? 2 * count : 1) * size);
    if (larger) return larger;
    fputs("copy_tree: out of memory\n", stderr);
    exit(1);
}

/* ---- Progress -------------------------------------------------------------------------------------------
 */

static void draw_bar(double share, double seconds) {
    static const char full[] = "########################";
    double rate = seconds > 0 ? 1 / seconds : 0;
    double left = share > 0 ? seconds * (1 - share) / share : 0;
    int width = (int)sizeof full - 1, done = (int)(share * width);
    fprintf(stderr, "\r[%-*.*s] %3d%%  %.0f files/s  %.1f MB/s  %d:%02d left\033[K", width, done, full,
            (int)(share * 100), (double)files_done * rate, (double)bytes_done * rate * 1e-6, (int)left / 60,
            (int)left % 60);
}

static void draw_line(double share, double seconds) {
    double rate = seconds > 0 ? 1 / seconds : 0;
    fprintf(stderr, "%3d%%  %llu files  %.0f files/s  %.1f MB/s\n", (int)(share * 10) * 10,
            (unsigned long long)files_done, (double)files_done * rate, (double)bytes_done * rate * 1e-6);
}

/* A bar on a terminal, at most 20 times a second; elsewhere a line each ten percent. */
static void draw(bool at_end) {
    static double last_drawn;
    static int last_tenth;
    double t = now(), share = weight_total ? (double)weight_done / (double)weight_total : 1;
    if (share > 1) share = 1; /* the tree grew meanwhile */
    if (isatty(STDERR_FILENO)) {
        if (!at_end && t - last_drawn < 0.05) return;
        last_drawn = t;
        draw_bar(share, t - began);
        if (at_end) fputc('\n', stderr);
    } else if ((int)(share * 10) > last_tenth) {
        last_tenth = (int)(share * 10);
        draw_line(share, t - began);
    }
}

/* ---- The window -----------------------------------------------------------------------------------------
 */

static void free_slot(slot *s) {
    weight_done += s->weight;
    mproc_future_free(s->future);
    free(s->path);
    memset(s, 0, sizeof *s);
    in_flight--;
}

static void settle(const report *r) {
    slot *s = &window[r->index % window_size];
    if (!s->future || s->index != r->index) return;
    if (r->error) fail(s->path, r->error);
    else files_done++, bytes_done += r->bytes;
    free_slot(s);
}

/* Takes all reports there are, waiting for the first. */
static void drain(double timeout) {
    static report r[64];
    ssize_t n;
    while ((n = mproc_queue_get_many(reports, r, 64, sizeof r[0], timeout)) > 0) {
        for (ssize_t i = 0; i < n; i++) settle(&r[i]);
        timeout = 0;
    }
    if (n == MPROC_ETIMEDOUT) return;
    complain("queue", "%s", mproc_strerror((int)n));
    exit(1);
}

static void remove_temp(const slot *s) {
    char temp[sizeof temp_prefix + 24];
    const char *name;
    int to = open_parent(dest_root, s->path, &name);
    if (to < 0) return;
    temp_name(temp, sizeof temp, s->index);
    unlinkat(to, temp, 0);
    close(to);
}

/* A task that has ended and never reported: its worker was killed, or the whole pool was. */
static void settle_lost(slot *s) {
    int error = mproc_future_wait(s->future, 0), code;
    if (!error) error = mproc_future_get(s->future, NULL, 0);
    code = mproc_future_code(s->future);
    failures++;
    if (error == MPROC_ECRASHED && code < 0)
        complain(s->path, "%s (%s)", mproc_strerror(error), strsignal(-code));
    else complain(s->path, "%s", mproc_strerror(error));
    if (error == MPROC_EBROKEN) pool_broken = true;
    remove_temp(s);
    free_slot(s);
}

/* Works through the reports. A task's report is in the queue before the task ends; so a task that had ended
   before the queue was drained, and has still not reported, never will. */
static void pump(double timeout) {
    static double last_look;
    bool look = now() - last_look > 0.2;
    for (size_t i = 0; look && i < window_size; i++)
        if (window[i].future) window[i].ended = mproc_future_wait(window[i].future, 0) != MPROC_ETIMEDOUT;
    drain(timeout);
    for (size_t i = 0; look && i < window_size; i++)
        if (window[i].ended) settle_lost(&window[i]);
    if (look) last_look = now();
    draw(false);
}

/* A free place; not the oldest one: a large file must not hold up those behind it. */
static slot *free_place(void) {
    while (in_flight == window_size) pump(0.2);
    slot *s = window;
    while (s->future) s++;
    return s;
}

/* Gives a file to the pool, as soon as a place in the window is free. */
static void give(const char *path, uint64_t weight) {
    size_t size = sizeof(job) + strlen(path) + 1;
    slot *s = free_place();
    job *j = (job *)malloc(size);
    char *copy = strdup(path);
    if (j && copy) {
        j->reports = reports;
        j->index = serial * window_size + (uint64_t)(s - window);
        s->index = j->index;
        memcpy(j->path, path, size - sizeof(job));
        s->future = mproc_pool_apply_async(pool, copy_task, j, size, 0);
    }
    int error = s->future ? 0 : -errno;
    free(j);
    if (error) {
        free(copy);
        weight_done += weight;
        fail(path, error);
        if (error == MPROC_EBROKEN) pool_broken = true;
        return;
    }
    s->path = copy;
    s->weight = weight;
    serial++;
    in_flight++;
}

/* ---- The walk -------------------------------------------------------------------------------------------
 */

static char *join(const char *path, const char *name) {
    size_t size = strlen(path) + strlen(name) + 2;
    char *joined = (char *)malloc(size);
    if (!joined) fputs("copy_tree: out of memory\n", stderr), exit(1);
    snprintf(joined, size, "%s%s%s", path, *path ? "/" : "", name);
    return joined;
}

static void push(char *path) {
    pending = (char **)grow(pending, pending_count, sizeof *pending);
    pending[pending_count++] = path;
}

/* Makes the folder below DEST, or takes the one that is there; open to its owner until the end. */
static int make_folder(const char *path) {
    const char *name;
    struct stat st;
    int parent = open_parent(dest_root, path, &name), error = 0;
    if (parent < 0) return -errno;
    if (*path && mkdirat(parent, name, 0700) != 0 && errno != EEXIST) error = -errno;
    close(parent);
    if (error) return error;
    int made = open_folder(dest_root, path);
    if (made < 0) return -errno;
    if (fstat(made, &st) != 0) error = -errno;
    else if ((st.st_mode & 0700) != 0700 && fchmod(made, (st.st_mode & 07777) | 0700) != 0) error = -errno;
    close(made);
    return error;
}

static void remember(const char *path, const struct stat *st) {
    folders = (folder *)grow(folders, folder_count, sizeof *folders);
    folders[folder_count].path = join("", path);
    folders[folder_count++].st = *st;
}

/* One entry of the folder path. While counting, what goes wrong is left for the copying walk to tell. */
static void visit(int folder_fd, const char *path, const char *name, bool copying) {
    struct stat st;
    char *full = join(path, name);
    if (fstatat(folder_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        if (copying) fail(full, -errno);
    } else if (S_ISDIR(st.st_mode)) {
        push(full);
        return;
    } else if (!S_ISREG(st.st_mode) && !S_ISLNK(st.st_mode)) {
        if (copying) skipped++, complain(full, "skipped: neither file, link nor folder");
    } else {
        uint64_t weight = FILE_WEIGHT + (S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0);
        if (copying) give(full, weight);
        else weight_total += weight;
    }
    free(full);
}

/* Everything in the open folder; takes over fd. */
static int visit_all(int fd, const char *path, bool copying) {
    DIR *dir = fdopendir(fd);
    struct dirent *e;
    if (!dir) {
        int error = -errno;
        close(fd);
        return error;
    }
    while (errno = 0, !pool_broken && (e = readdir(dir)) != NULL)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            visit(dirfd(dir), path, e->d_name, copying);
    int error = pool_broken ? 0 : -errno;
    closedir(dir);
    return error;
}

static int visit_folder(const char *path, bool copying) {
    struct stat st;
    int fd = open_folder(source_root, path), error = 0;
    if (fd < 0) return -errno;
    if (copying && fstat(fd, &st) != 0) error = -errno;
    if (copying && !error) error = make_folder(path);
    if (error) {
        close(fd);
        return error;
    }
    if (copying) remember(path, &st);
    return visit_all(fd, path, copying);
}

/* Folders wait in a list, not in open descriptors or a recursion: the tree may be as deep as it likes. */
static void walk(bool copying) {
    push(join("", ""));
    while (pending_count > 0) {
        char *path = pending[--pending_count];
        int error = pool_broken ? 0 : visit_folder(path, copying);
        if (copying && error) fail(path, error);
        free(path);
    }
}

/* Deepest first: a folder stands in the list before what is in it. */
static void finish_folders(void) {
    for (size_t i = folder_count; i-- > 0;) {
        int fd = open_folder(dest_root, folders[i].path);
        int error = fd < 0 ? -errno : copy_metadata(fd, &folders[i].st);
        if (error) fail(folders[i].path, error);
        if (fd >= 0) close(fd);
        free(folders[i].path);
    }
}

/* ---- The program ----------------------------------------------------------------------------------------
 */

/* Is the folder, or one it stands in, the source? Asked of the folders themselves, not of their names. */
static bool inside_source(int fd) {
    struct stat source, here, above;
    int at = openat(fd, ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    bool inside = false, top = at < 0 || fstat(source_root, &source) != 0 || fstat(at, &here) != 0;
    while (!top && !inside) {
        inside = here.st_dev == source.st_dev && here.st_ino == source.st_ino;
        int up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = up;
        if (at < 0 || fstat(at, &above) != 0) break;
        top = above.st_dev == here.st_dev && above.st_ino == here.st_ino;
        here = above;
    }
    if (at >= 0) close(at);
    return inside;
}

/* The folder in which DEST stands or will stand; what is refused there is never made. */
static int open_above(const char *dest) {
    char *path = strdup(dest);
    if (!path) return -1;
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/') path[--len] = '\0';
    char *slash = strrchr(path, '/');
    if (slash) slash[slash == path] = '\0';
    int fd = open(slash ? path : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int error = errno;
    free(path);
    errno = error;
    return fd;
}

/* 0, or an exit code after a message. */
static int open_roots(const char *source, const char *dest) {
    source_root = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (source_root < 0) return complain(source, "%s", strerror(errno)), 1;
    dest_root = open(dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dest_root < 0 && errno == ENOENT) {
        int above = open_above(dest);
        if (above < 0) return complain(dest, "%s", strerror(errno)), 1;
        bool refused = inside_source(above);
        close(above);
        if (refused) return complain(dest, "stands inside the source"), 2;
        if (mkdir(dest, 0700) != 0) return complain(dest, "%s", strerror(errno)), 1;
        dest_root = open(dest, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    if (dest_root < 0) return complain(dest, "%s", strerror(errno)), 1;
    if (inside_source(dest_root)) return complain(dest, "stands inside the source"), 2;
    return 0;
}

static int make_pool(int workers) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    snprintf(temp_prefix, sizeof temp_prefix, ".copy_tree.%ld.%lx%lx", (long)getpid(),
             (unsigned long)t.tv_sec, (unsigned long)t.tv_nsec);
    window_size = 64 + 8 * (size_t)workers;
    mproc_pool_options options = {.workers = workers, .backlog = window_size, .name = "copy_tree"};
    window = (slot *)calloc(window_size, sizeof *window);
    pool = window ? mproc_pool_new_with(&options) : NULL;
    if (!pool) return complain("pool", "%s", strerror(errno)), 1;
    reports = mproc_queue_new(0);
    if (!reports) return complain("queue", "%s", strerror(errno)), 1;
    return 0;
}

static int copy_tree(int workers) {
    began = now();
    walk(false);
    walk(true);
    while (in_flight > 0) pump(0.2);
    finish_folders();
    double seconds = now() - began;
    if (pool_broken) complain("pool", "it broke down; what comes after the files named above was not copied");
    draw(true);
    printf("%llu files, %zu folders, %llu bytes, %.2f seconds, %d workers", (unsigned long long)files_done,
           folder_count, (unsigned long long)bytes_done, seconds, workers);
    if (skipped) printf(", %lu skipped", skipped);
    if (failures) printf(", %lu FAILED", failures);
    puts("");
    return failures ? 1 : 0;
}

static int usage(void) {
    fputs("usage: copy_tree [-w WORKERS] SOURCE DEST\n", stderr);
    return 2;
}

int main(int argc, char **argv) {
    int option, workers = 0;
    while ((option = getopt(argc, argv, "w:")) != -1) {
        char *end = NULL;
        long n = option == 'w' ? strtol(optarg, &end, 10) : -1;
        if (n < 0 || n > 4096 || !end || end == optarg || *end) return usage();
        workers = (int)n;
    }
    if (argc - optind != 2) return usage();
    if (workers == 0) workers = mproc_cpu_count();
    int code = open_roots(argv[optind], argv[optind + 1]);
    if (!code) code = make_pool(workers);
    if (!code) code = copy_tree(workers);
    mproc_pool_free(pool);
    mproc_queue_free(reports);
    free(window);
    free(folders);
    free(pending);
    return code;
}
