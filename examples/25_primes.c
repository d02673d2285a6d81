/* A loop in parallel, without a pool: parallel_for forks workers for it, and they take the indices as they
   get done with them, so that expensive ones do not hold up the rest. They read the caller's memory as it is;
   what they write there stays their own, so results go to shared memory. Here: how many primes are there
   below three million? */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"

#define LIMIT  3000000u
#define KNOWN  216816u /* primes below LIMIT */
#define BLOCKS 200u
#define ROOT   1733u /* ROOT * ROOT > LIMIT */

struct search {
    unsigned primes[ROOT]; /* the small ones, to divide by: plain memory, only read */
    unsigned prime_count;
    unsigned *found; /* by each block: shared memory */
    unsigned tried;  /* plain memory, written by the workers: the caller will not see it */
};

static bool is_prime(const struct search *s, unsigned n) {
    for (unsigned i = 0; i < s->prime_count && s->primes[i] * s->primes[i] <= n; i++)
        if (n % s->primes[i] == 0) return false;
    return n > 1;
}

/* One round of the loop: it stands for the numbers of one block. */
static void count_block(size_t block, void *ctx) {
    struct search *s = (struct search *)ctx;
    unsigned first = (unsigned)block * (LIMIT / BLOCKS), after = first + LIMIT / BLOCKS, found = 0;
    for (unsigned n = first; n < after; n++) found += is_prime(s, n);
    s->found[block] = found; /* nobody else writes this element: no lock */
    s->tried += after - first;
}

int main(void) {
    static struct search s;
    for (unsigned n = 2; n < ROOT; n++)
        if (is_prime(&s, n)) s.primes[s.prime_count++] = n;
    s.found = mproc_array_new(unsigned, BLOCKS);
    if (!s.found) return perror("mproc_array_new"), 1;

    int error = mproc_parallel_for(BLOCKS, 0, count_block, &s); /* 0: as many workers as there are CPUs */
    if (error) return fprintf(stderr, "parallel_for: %s\n", mproc_strerror(error)), 1;

    unsigned sum = 0;
    for (unsigned i = 0; i < BLOCKS; i++) sum += s.found[i];
    printf("%u primes below %u, %u of them in the first block and %u in the last\n", sum, LIMIT, s.found[0],
           s.found[BLOCKS - 1]);
    printf("in my own memory the workers changed nothing: tried is %u\n", s.tried);
    mproc_free(s.found);
    return sum == KNOWN && s.tried == 0 ? 0 : 1;
}
