/* Ten buyers, one ticket. What is for sale stands in a JSON file; each buyer is a process that reads the
   file, and if a ticket is left, takes it and writes the file anew. mproc_file_update does the three as one
   step: it locks the file meanwhile, and whoever is killed in between leaves the old file or the new, never
   half. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static mproc_file *office; /* opened once; in each child it is a handle of its own */

struct buyer {
    mproc_process process;
    int number;
};

/* Replaces the file's content, which the library has read into allocated memory. */
static int set_text(char **data, size_t *size, int tickets, int sold_to) {
    char *text = (char *)realloc(*data, 80);
    if (!text) return -ENOMEM;
    *data = text;
    *size = (size_t)snprintf(text, 80, "{\"tickets\": %d, \"sold_to\": %d}\n", tickets, sold_to);
    return 0;
}

static bool parse(const char *data, size_t size, int *tickets, int *sold_to) {
    char text[80]; /* what was read from a file need not end in a zero byte */
    if (size >= sizeof text) return false;
    memcpy(text, data, size);
    text[size] = '\0';
    return sscanf(text, "{\"tickets\": %d, \"sold_to\": %d}", tickets, sold_to) == 2;
}

static int put_on_sale(char **data, size_t *size, void *ctx) {
    (void)ctx;
    return set_text(data, size, 1, 0);
}

static int buy(char **data, size_t *size, void *ctx) {
    int tickets, sold_to;
    if (!parse(*data, *size, &tickets, &sold_to)) return -EILSEQ;
    if (tickets == 0) return 1; /* sold out: anything but 0 leaves the file as it is */
    return set_text(data, size, tickets - 1, *(int *)ctx);
}

static int try_to_buy(mproc_process *self) {
    struct buyer *b = (struct buyer *)self;
    int result = mproc_file_update(office, buy, &b->number);
    if (result == 0) printf("buyer %d has the ticket\n", b->number);
    else if (result == 1) printf("buyer %d finds it sold out\n", b->number);
    else fprintf(stderr, "buyer %d: %s\n", b->number, mproc_strerror(result));
    return result == 0 ? 0 : result == 1 ? 1 : 2;
}

/* How many of the ten got it; -1 if anything went wrong. */
static int sell(int *winner) {
    static struct buyer buyers[10];
    int sold = 0;
    for (int i = 0; i < 10; i++) {
        buyers[i].process.run = try_to_buy;
        buyers[i].number = i + 1;
        if (mproc_process_start(&buyers[i].process) != 0) return -1;
    }
    for (int i = 0; i < 10; i++) {
        if (mproc_process_join(&buyers[i].process, 30.0) != 0) return -1;
        if (buyers[i].process.exitcode > 1 || buyers[i].process.exitcode < 0) return -1;
        if (buyers[i].process.exitcode == 0) sold++, *winner = buyers[i].number;
    }
    return sold;
}

static bool run(const char *path) {
    char text[80];
    int winner = 0, tickets = -1, sold_to = -1;
    office = mproc_file_open(path);
    if (!office || mproc_file_update(office, put_on_sale, NULL) != 0) return false;
    int sold = sell(&winner);
    mproc_file_close(office);

    FILE *f = fopen(path, "re");
    if (!f) return false;
    size_t size = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    printf("sold: %d; the file says: %.*s", sold, (int)size, text);
    return sold == 1 && parse(text, size, &tickets, &sold_to) && tickets == 0 && sold_to == winner;
}

int main(void) {
    const char *tmp = getenv("TMPDIR");
    char folder[512], path[600];
    snprintf(folder, sizeof folder, "%s/tickets.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(folder)) return perror(folder), 1;
    snprintf(path, sizeof path, "%s/tickets.json", folder);
    bool held = run(path);
    unlink(path);
    if (rmdir(folder) != 0) return perror(folder), 1;
    return held ? 0 : 1;
}
