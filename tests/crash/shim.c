/*
 * Faults at the border between a process and its files.
 *
 * Loaded with LD_PRELOAD, this library stands before the calls by which SQLite (C) and the standard library of Rust
 * change files. Each such call below one folder is a "write point" and has a number. At one of them a fault is
 * injected: the process is killed (before the call, or half-way through it), the power fails, or the call fails.
 *
 * "Power fails" means: everything that was not synchronized is undone before the process dies. For that, the old bytes of each
 * write are kept until an fsync of that file, and each change of a name until an fsync of its folder. This is stricter than
 * most file systems, which keep names in order; it is what POSIX promises. Memory maps are not seen: SQLite maps only
 * its "-shm" file, which is made anew after a crash.
 *
 * Environment (nothing is done without CRASH_FOLDER):
 *   CRASH_FOLDER  only calls on paths below this absolute folder count
 *   CRASH_MODE    count | kill | torn | power | full | io | broken | denied
 *   CRASH_AT      number of the write point, from 1; 0: never
 *   CRASH_SEED    power: 0 drops all that was not synchronized, another number a random part of it
 *   CRASH_REPORT  file to which the number of write points at a regular end, and the fault, are appended
 *   CRASH_TRACE   if set, each write point is appended to the report
 *   CRASH_TRASH   folder on the same file system for files that an undo takes away or may bring back
 *   CRASH_PENDING kill: keep here what is not synchronized; power: begin with what an earlier process kept here
 *   CRASH_LIFT    once this file exists, calls no longer fail
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* The call of the next library. Each place looks it up once, so that the undo needs no lock of the loader. */
#define REAL(name)                                                                \
    (*({                                                                          \
        static __typeof__(&name) found;                                           \
        if (!found) found = (__typeof__(&name))real(#name);                       \
        found;                                                                    \
    }))

/* What a call does to the disk. */
enum what { WRITE, SIZE, SYNC, MAKE, NAME };
enum mode { COUNT, KILL, TORN, POWER, FULL, IO, BROKEN, DENIED };
enum verdict { GO, HALF, THEN_DIE, FAIL };

/* Something that is not on the disk yet. */
struct pending {
    enum { BYTES, MADE, GONE, MOVED } kind;
    dev_t device; /* of the file (BYTES), or of the folder that holds the name */
    ino_t inode;
    int file; /* BYTES: a descriptor of our own */
    off_t offset, length, old_size;
    char *old;               /* BYTES: what was there */
    char *path, *from, *kept; /* names: where it is, where it was, what it replaced */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder, *trash, *lift, *handed_on;
static size_t folder_length;
static enum mode mode;
static long at, count, seed, trash_serial;
static int report = -1, tracing, fired, keeping;
static struct pending *undo;
static size_t undo_length, undo_room;

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static void take_over(void);

__attribute__((constructor)) static void begin(void) {
    static const char *names[] = {"count", "kill", "torn", "power", "full", "io", "broken", "denied"};
    const char *wanted = getenv("CRASH_MODE");
    for (size_t i = 0; wanted && i < sizeof names / sizeof *names; i++)
        if (!strcmp(names[i], wanted)) mode = (enum mode)i;
    if (getenv("CRASH_AT")) at = atol(getenv("CRASH_AT"));
    if (getenv("CRASH_SEED")) seed = atol(getenv("CRASH_SEED"));
    tracing = getenv("CRASH_TRACE") != NULL;
    trash = getenv("CRASH_TRASH");
    lift = getenv("CRASH_LIFT");
    if (getenv("CRASH_REPORT")) report = REAL(open)(getenv("CRASH_REPORT"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    handed_on = getenv("CRASH_PENDING");
    keeping = mode == POWER || handed_on;
    folder = getenv("CRASH_FOLDER");
    if (folder) folder_length = strlen(folder);
    if (mode == POWER && handed_on) take_over();
}

static int below(const char *path) {
    return folder && !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

/* The absolute path of a call's arguments; 0 where it is none of ours. */
static int at_path(int directory, const char *name, char *path) {
    if (!folder || !name) return 0;
    if (name[0] == '/' || directory == AT_FDCWD) {
        snprintf(path, PATH_MAX, "%s", name);
        return below(path);
    }
    char link[64], base[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
    ssize_t length = readlink(link, base, sizeof base - 1);
    if (length < 0) return 0;
    base[length] = 0;
    return snprintf(path, PATH_MAX, "%s/%s", base, name) < PATH_MAX && below(path);
}

static int fd_path(int fd, char *path) {
    char link[64];
    if (!folder) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return below(path);
}

/* ---- what is pending, and how it is undone ---- */

static struct pending *push(int kind, struct stat *owner) {
    if (undo_length == undo_room) {
        undo_room = undo_room ? 2 * undo_room : 256;
        undo = realloc(undo, undo_room * sizeof *undo);
        if (!undo) abort();
    }
    struct pending *entry = &undo[undo_length++];
    memset(entry, 0, sizeof *entry);
    entry->kind = kind;
    entry->device = owner->st_dev;
    entry->inode = owner->st_ino;
    return entry;
}

static int parent_of(const char *path, struct stat *found) {
    char parent[PATH_MAX];
    snprintf(parent, sizeof parent, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash) *slash = 0;
    return stat(parent, found);
}

/* A descriptor of our own for the file. It is never closed: closing any descriptor of a file drops SQLite's locks on it. */
static int own_file(int fd, struct stat *found) {
    for (size_t i = undo_length; i-- > 0;)
        if (undo[i].kind == BYTES && undo[i].inode == found->st_ino && undo[i].device == found->st_dev) return undo[i].file;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    return REAL(open)(link, O_RDWR | O_CLOEXEC);
}

/* Keep the bytes that a write at this place, or a cut to this length, replaces. */
static void keep_bytes(int fd, const char *path, off_t offset, off_t length) {
    struct stat found;
    if (!keeping || (strlen(path) > 4 && !strcmp(path + strlen(path) - 4, "-shm"))) return;
    if (fstat(fd, &found) || !S_ISREG(found.st_mode)) return;
    int file = own_file(fd, &found);
    struct pending *entry = push(BYTES, &found);
    entry->file = file;
    entry->offset = offset;
    entry->old_size = found.st_size;
    entry->length = offset + length > found.st_size ? found.st_size - offset : length;
    if (entry->length > 0) {
        entry->old = malloc(entry->length);
        if (!entry->old || pread(file, entry->old, entry->length, offset) != entry->length) abort();
    }
}

static void keep_name(int kind, const char *path, const char *from, char *kept) {
    struct stat parent;
    if (!keeping || parent_of(path, &parent)) return free(kept);
    struct pending *entry = push(kind, &parent);
    entry->path = strdup(path);
    entry->from = from ? strdup(from) : NULL;
    entry->kept = kept;
}

static void trash_path(char *path) {
    snprintf(path, PATH_MAX, "%s/%d-%ld", trash ? trash : "/tmp", (int)getpid(), trash_serial++);
}

/* A second name for a file that is about to lose its own. */
static char *keep_file(const char *path) {
    struct stat found;
    if (!keeping || stat(path, &found) || !S_ISREG(found.st_mode)) return NULL;
    char kept[PATH_MAX];
    trash_path(kept);
    if (REAL(link)(path, kept)) abort();
    return strdup(kept);
}

static void synchronized(int fd) {
    struct stat found;
    if (!keeping || fstat(fd, &found)) return;
    size_t left = 0;
    for (size_t i = 0; i < undo_length; i++) {
        int file = undo[i].kind == BYTES;
        int done = undo[i].inode == found.st_ino && undo[i].device == found.st_dev && file == !S_ISDIR(found.st_mode);
        if (!done) undo[left++] = undo[i];
        else free(undo[i].old); /* descriptors stay open, see own_file */
    }
    undo_length = left;
}

/* Without malloc: a thread that was stopped may hold its lock. */
static void undo_one(struct pending *entry) {
    char away[PATH_MAX];
    switch (entry->kind) {
    case BYTES:
        if (entry->length > 0 && REAL(pwrite)(entry->file, entry->old, entry->length, entry->offset) < 0) abort();
        if (REAL(ftruncate)(entry->file, entry->old_size)) abort();
        break;
    case MADE:
        trash_path(away);
        REAL(rename)(entry->path, away);
        break;
    case GONE:
        if (entry->kept) REAL(rename)(entry->kept, entry->path);
        else REAL(mkdir)(entry->path, 0755);
        break;
    case MOVED:
        REAL(rename)(entry->path, entry->from);
        if (entry->kept) REAL(rename)(entry->kept, entry->path);
        break;
    }
}

static atomic_int stopped;

static void stop(int signal) {
    (void)signal;
    atomic_fetch_add(&stopped, 1);
    for (;;) pause();
}

/* Stop all other threads: nobody is there to see the power go. */
static void stop_others(void) {
    struct sigaction action = {.sa_handler = stop};
    sigaction(SIGUSR2, &action, NULL);
    DIR *tasks = opendir("/proc/self/task");
    int sent = 0;
    for (struct dirent *task; tasks && (task = readdir(tasks));) {
        int id = atoi(task->d_name);
        if (id > 0 && id != gettid()) sent += !syscall(SYS_tgkill, getpid(), id, SIGUSR2);
    }
    /* A thread that was about to end does not answer. */
    for (int i = 0; i < 1000 && atomic_load(&stopped) < sent; i++) usleep(100);
}

/* Drop what was not synchronized: all of it, or, of each file and folder, what came after a random moment. */
static void lose_power(void) {
    stop_others();
    for (size_t i = undo_length; i-- > 0;) {
        size_t total = 0, place = 0, first = i;
        for (size_t j = 0; j < undo_length; j++)
            if (undo[j].inode == undo[i].inode && undo[j].device == undo[i].device && (undo[j].kind == BYTES) == (undo[i].kind == BYTES)) {
                if (!total) first = j;
                place += j < i;
                total++;
            }
        uint64_t random = ((uint64_t)seed * 0x9E3779B97F4A7C15u) ^ (first * 0xBF58476D1CE4E5B9u);
        random = (random ^ (random >> 31)) * 0x94D049BB133111EBu;
        random ^= random >> 29;
        size_t kept = seed ? random % (total + 1) : 0;
        if (place >= kept) undo_one(&undo[i]);
    }
}

/* What a killed process had not synchronized is still not synchronized in the next one. */
static void hand_on(void) {
    FILE *out = fopen(handed_on, "w");
    for (size_t i = 0; out && i < undo_length; i++) {
        struct pending entry = undo[i];
        char link[64], path[PATH_MAX];
        if (entry.kind == BYTES) {
            snprintf(link, sizeof link, "/proc/self/fd/%d", entry.file);
            ssize_t length = readlink(link, path, sizeof path - 1);
            path[length < 0 ? 0 : length] = 0;
            entry.path = path;
        }
        fwrite(&entry, sizeof entry, 1, out);
        char *texts[] = {entry.path, entry.from, entry.kept};
        for (int t = 0; t < 3; t++) {
            size_t length = texts[t] ? strlen(texts[t]) + 1 : 0;
            fwrite(&length, sizeof length, 1, out);
            fwrite(texts[t] ? texts[t] : "", 1, length, out);
        }
        if (entry.old) fwrite(entry.old, 1, entry.length, out);
    }
    if (out) fclose(out);
}

static void take_over(void) {
    FILE *in = fopen(handed_on, "r");
    struct pending entry;
    while (in && fread(&entry, sizeof entry, 1, in) == 1) {
        char **texts[] = {&entry.path, &entry.from, &entry.kept};
        struct stat found = {.st_dev = entry.device, .st_ino = entry.inode};
        for (int t = 0; t < 3; t++) {
            size_t length;
            if (fread(&length, sizeof length, 1, in) != 1) abort();
            *texts[t] = length ? malloc(length) : NULL;
            if (length && fread(*texts[t], 1, length, in) != length) abort();
        }
        if (entry.old && (!(entry.old = malloc(entry.length)) || fread(entry.old, 1, entry.length, in) != (size_t)entry.length)) abort();
        if (entry.kind == BYTES) {
            /* A file that is gone since has nothing to lose. */
            entry.file = REAL(open)(entry.path, O_RDWR | O_CLOEXEC);
            if (entry.file < 0 || fstat(entry.file, &found) || found.st_ino != entry.inode) continue;
        }
        *push(entry.kind, &found) = entry;
    }
    if (in) fclose(in);
}

_Noreturn static void die(void) {
    if (mode == KILL && handed_on) hand_on();
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

__attribute__((destructor)) static void end(void) {
    if (!folder) return;
    pthread_mutex_lock(&lock);
    if (report >= 0) dprintf(report, "points %ld\n", count);
    if (mode == POWER) {
        lose_power();
        die();
    }
    pthread_mutex_unlock(&lock);
}

/* ---- write points ---- */

/* Count a call and say what becomes of it; the lock is held until the call is done. */
static enum verdict point(enum what what, const char *call, const char *path, long length) {
    pthread_mutex_lock(&lock);
    count++;
    if (tracing) dprintf(report, "%ld %s %s %ld\n", count, call, path + folder_length, length);
    int here = at > 0 && (mode < FULL ? count == at : count >= at);
    if (mode == FULL) here = here && (what == WRITE || what == MAKE);
    if (mode == DENIED) here = here && (what == MAKE || what == NAME);
    if (mode == IO && fired) here = 0;
    if (!here || mode == COUNT || (mode >= FULL && lift && !access(lift, F_OK))) return GO;
    if (!fired++ && report >= 0) dprintf(report, "fault at %ld: %s %s %ld\n", count, call, path + folder_length, length);
    switch (mode) {
    case KILL: die();
    case POWER: lose_power(); die();
    case TORN: return what == WRITE && length > 1 ? HALF : THEN_DIE;
    /* A full disk often takes a part of the first write. */
    case FULL:
        if (fired == 1 && what == WRITE && length > 1) return HALF;
        errno = ENOSPC;
        return FAIL;
    default: errno = mode == DENIED ? EACCES : EIO; return FAIL;
    }
}

static void done(enum verdict verdict) {
    int error = errno;
    if (mode == TORN && verdict != GO) die();
    pthread_mutex_unlock(&lock);
    errno = error;
}

/* Stand before a call. `keep` runs before it, and only where it will happen. */
#define AROUND(type, what, path, length, keep, call, half)                        \
    do {                                                                           \
        enum verdict verdict = point(what, __func__, path, length);                \
        type result = -1;                                                          \
        if (verdict != FAIL) {                                                     \
            keep;                                                                  \
            result = verdict == HALF ? (half) : (call);                            \
        }                                                                          \
        done(verdict);                                                             \
        return result;                                                             \
    } while (0)

static off_t place(int fd) {
    struct stat found;
    if (fcntl(fd, F_GETFL) & O_APPEND) return fstat(fd, &found) ? 0 : found.st_size;
    return lseek(fd, 0, SEEK_CUR);
}

static off_t size_of(int fd) {
    struct stat found;
    return fstat(fd, &found) ? 0 : found.st_size;
}

ssize_t write(int fd, const void *bytes, size_t length) {
    char path[PATH_MAX];
    if (!fd_path(fd, path)) return REAL(write)(fd, bytes, length);
    AROUND(ssize_t, WRITE, path, length, keep_bytes(fd, path, place(fd), length), REAL(write)(fd, bytes, length),
           REAL(write)(fd, bytes, length / 2));
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    char path[PATH_MAX];
    size_t length = 0;
    for (int i = 0; i < number; i++) length += parts[i].iov_len;
    if (!fd_path(fd, path)) return REAL(writev)(fd, parts, number);
    AROUND(ssize_t, WRITE, path, length, keep_bytes(fd, path, place(fd), length), REAL(writev)(fd, parts, number),
           REAL(write)(fd, parts[0].iov_base, parts[0].iov_len / 2));
}

#define PWRITE(name)                                                                                                       \
    ssize_t name(int fd, const void *bytes, size_t length, off_t offset) {                                                 \
        char path[PATH_MAX];                                                                                               \
        if (!fd_path(fd, path)) return REAL(name)(fd, bytes, length, offset);                                              \
        AROUND(ssize_t, WRITE, path, length, keep_bytes(fd, path, offset, length), REAL(name)(fd, bytes, length, offset),  \
               REAL(name)(fd, bytes, length / 2, offset));                                                                 \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
    char path[PATH_MAX];
    if (!fd_path(to, path)) return REAL(copy_file_range)(from, from_at, to, to_at, length, flags);
    AROUND(ssize_t, WRITE, path, length, keep_bytes(to, path, to_at ? *to_at : place(to), length),
           REAL(copy_file_range)(from, from_at, to, to_at, length, flags),
           REAL(copy_file_range)(from, from_at, to, to_at, length / 2, flags));
}

#define CUT(name)                                                                                                       \
    int name(int fd, off_t length) {                                                                                    \
        char path[PATH_MAX];                                                                                            \
        if (!fd_path(fd, path)) return REAL(name)(fd, length);                                                          \
        AROUND(int, SIZE, path, length, keep_bytes(fd, path, length, size_of(fd)), REAL(name)(fd, length),              \
               REAL(name)(fd, length));                                                                                 \
    }
CUT(ftruncate)
CUT(ftruncate64)

#define ALLOCATE(name)                                                                                                  \
    int name(int fd, int how, off_t offset, off_t length) {                                                             \
        char path[PATH_MAX];                                                                                            \
        if (!fd_path(fd, path)) return REAL(name)(fd, how, offset, length);                                             \
        AROUND(int, SIZE, path, length, keep_bytes(fd, path, offset, length), REAL(name)(fd, how, offset, length), -1); \
    }
ALLOCATE(fallocate)
ALLOCATE(fallocate64)

#define SYNCHRONIZE(name)                                                                     \
    int name(int fd) {                                                                        \
        char path[PATH_MAX];                                                                  \
        if (!fd_path(fd, path)) return REAL(name)(fd);                                        \
        AROUND(int, SYNC, path, 0, , (synchronized(fd), REAL(name)(fd)), REAL(name)(fd));     \
    }
SYNCHRONIZE(fsync)
SYNCHRONIZE(fdatasync)

/* Opening is a write point where it makes a file, or empties one. */
#define OPEN_BODY(directory, name, call)                                                                  \
    char path[PATH_MAX];                                                                                  \
    struct stat found;                                                                                    \
    va_list rest;                                                                                         \
    va_start(rest, flags);                                                                                \
    mode_t rights = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                             \
    va_end(rest);                                                                                         \
    if (!at_path(directory, name, path)) return call;                                                     \
    int missing = stat(path, &found) != 0;                                                                \
    if (!(missing && flags & O_CREAT) && !(!missing && flags & O_TRUNC && found.st_size > 0)) return call; \
    AROUND(int, MAKE, path, 0, , opened(call, path, missing), opened(call, path, missing));

static int opened(int fd, const char *path, int made) {
    if (fd >= 0 && made) keep_name(MADE, path, NULL, NULL);
    return fd;
}

int open(const char *name, int flags, ...) { OPEN_BODY(AT_FDCWD, name, REAL(open)(name, flags, rights)) }
int open64(const char *name, int flags, ...) { OPEN_BODY(AT_FDCWD, name, REAL(open64)(name, flags, rights)) }
int openat(int dir, const char *name, int flags, ...) { OPEN_BODY(dir, name, REAL(openat)(dir, name, flags, rights)) }
int openat64(int dir, const char *name, int flags, ...) { OPEN_BODY(dir, name, REAL(openat64)(dir, name, flags, rights)) }

static int named(int result, int kind, const char *path, const char *from, char *kept) {
    if (result) free(kept);
    else keep_name(kind, path, from, kept);
    return result;
}

/* A folder that is there already is said to be there, whatever else is wrong. */
int mkdir(const char *name, mode_t rights) {
    char path[PATH_MAX];
    struct stat found;
    if (!at_path(AT_FDCWD, name, path) || !stat(path, &found)) return REAL(mkdir)(name, rights);
    AROUND(int, MAKE, path, 0, , named(REAL(mkdir)(name, rights), MADE, path, NULL, NULL), -1);
}

int link(const char *from, const char *to) {
    char path[PATH_MAX];
    if (!at_path(AT_FDCWD, to, path)) return REAL(link)(from, to);
    AROUND(int, MAKE, path, 0, , named(REAL(link)(from, to), MADE, path, NULL, NULL), -1);
}

/* The kept names are outside the folder, so taking one is no write point. */
#define MOVE(call)                                                                                   \
    char path[PATH_MAX], old[PATH_MAX];                                                              \
    if (!at_path(to_dir, to, path) || !at_path(from_dir, from, old)) return call;                    \
    char *kept = NULL;                                                                               \
    AROUND(int, NAME, path, 0, kept = keep_file(path), named(call, MOVED, path, old, kept), -1);

int renameat(int from_dir, const char *from, int to_dir, const char *to) { MOVE(REAL(renameat)(from_dir, from, to_dir, to)) }
int renameat2(int from_dir, const char *from, int to_dir, const char *to, unsigned flags) {
    MOVE(REAL(renameat2)(from_dir, from, to_dir, to, flags))
}
int rename(const char *from, const char *to) {
    int from_dir = AT_FDCWD, to_dir = AT_FDCWD;
    MOVE(REAL(rename)(from, to))
}

/* Removing what is not there changes nothing and is no write point. */
#define REMOVE(directory, name, call)                                                                \
    char path[PATH_MAX];                                                                             \
    struct stat found;                                                                               \
    if (!at_path(directory, name, path) || lstat(path, &found)) return call;                         \
    char *kept = NULL;                                                                               \
    AROUND(int, NAME, path, 0, kept = keep_file(path), named(call, GONE, path, NULL, kept), -1);

int unlink(const char *name) { REMOVE(AT_FDCWD, name, REAL(unlink)(name)) }
int unlinkat(int dir, const char *name, int flags) { REMOVE(dir, name, REAL(unlinkat)(dir, name, flags)) }
int rmdir(const char *name) { REMOVE(AT_FDCWD, name, REAL(rmdir)(name)) }
