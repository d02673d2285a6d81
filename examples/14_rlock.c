/* A recursive lock may be acquired again by the one who holds it. So a function that locks can be called from
   another one that locks: transfer calls add, and both need the bank for themselves. */
#define MPROC_IMPLEMENTATION
#include "../mproc.h"

#define TRANSFERS 500

struct bank {
    mproc_rlock *lock;
    long accounts[2];
};

static int add(struct bank *bank, int account, long amount) {
    int error = mproc_rlock_acquire(bank->lock, 10.0);
    if (error) return error;
    bank->accounts[account] += amount;
    return mproc_rlock_release(bank->lock); /* free for others after the last release, not after this one */
}

/* Nobody sees the money on neither account: the lock is held from before the first add to after the second.
 */
static int transfer(struct bank *bank, int from, int to, long amount) {
    int error = mproc_rlock_acquire(bank->lock, 10.0);
    if (error) return error;
    error = add(bank, from, -amount);
    if (!error) error = add(bank, to, amount);
    mproc_rlock_release(bank->lock);
    return error;
}

static int make_transfers(void *arg) {
    struct bank *bank = (struct bank *)arg;
    for (int i = 0; i < TRANSFERS; i++) { /* to and fro, each time one more than before */
        if (transfer(bank, i % 2, 1 - i % 2, i) != 0) return 1;
        if (mproc_rlock_acquire(bank->lock, 10.0) != 0) return 1;
        long sum = bank->accounts[0] + bank->accounts[1];
        mproc_rlock_release(bank->lock);
        if (sum != 2000) return 2;
    }
    return 0;
}

static bool four_clerks(struct bank *bank) {
    mproc_process clerks[4] = {{0}};
    bool held = true;
    for (int i = 0; i < 4; i++) {
        clerks[i].target = make_transfers;
        clerks[i].arg = bank;
        if (mproc_process_start(&clerks[i]) != 0) return false;
    }
    for (int i = 0; i < 4; i++)
        if (mproc_process_join(&clerks[i], 30.0) != 0 || clerks[i].exitcode != 0) held = false;
    printf("after 4 x %d transfers: %ld + %ld = %ld\n", TRANSFERS, bank->accounts[0], bank->accounts[1],
           bank->accounts[0] + bank->accounts[1]);
    return held && bank->accounts[0] == 1000 + 4 * (TRANSFERS / 2) &&
           bank->accounts[1] == 1000 - 4 * (TRANSFERS / 2);
}

/* What transfer would run into with a plain lock. */
static bool plain_lock_twice(void) {
    mproc_lock *lock = mproc_lock_new();
    if (!lock || mproc_lock_acquire(lock, MPROC_FOREVER) != 0) return false;
    int error = mproc_lock_acquire(lock, MPROC_FOREVER); /* waiting for oneself would never end */
    printf("a plain lock, acquired twice: %s\n", mproc_strerror(error));
    mproc_lock_release(lock);
    mproc_lock_free(lock);
    return error == -EDEADLK;
}

int main(void) {
    struct bank *bank = (struct bank *)mproc_shm_new(sizeof *bank);
    if (!bank) return perror("mproc_shm_new"), 1;
    bank->accounts[0] = bank->accounts[1] = 1000;
    bank->lock = mproc_rlock_new(); /* shared memory may point to other shared objects */
    if (!bank->lock) return perror("mproc_rlock_new"), 1;

    bool held = four_clerks(bank);
    held = plain_lock_twice() && held;
    if (mproc_rlock_free(bank->lock) != 0 || mproc_free(bank) != 0) held = false;
    return held ? 0 : 1;
}
