// Preloaded (LD_PRELOAD): counts the calls by which a process changes files below a folder, and at one of them kills the
// process, sends it a signal, or lets the call fail. Only the process that armed it: what it forks or starts goes on unharmed.
// Calls by which C's own stdio empties its buffers cannot be seen from outside it; `fwrite` itself can.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, KILL, HALF, ERROR, FULL, SIGNAL };

static char prefix[PATH_MAX];
static size_t prefix_length;
static pid_t owner;
static int fault, error, log_file;
static long at;
static atomic_long events;

// At event `which` (from 1; 0 for none). Every event is a line of the file `log`: class, call, bytes, path.
void arm(const char *below, long which, int what, int number, int log) {
  strncpy(prefix, below, sizeof prefix - 1);
  prefix_length = strlen(prefix);
  at = which, fault = what, error = number, log_file = log;
  atomic_store(&events, 0);
  owner = getpid();
}

static void die(void) {
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

static void path_of(char *out, int fd) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, out, PATH_MAX - 1);
  out[n < 0 ? 0 : n] = 0;
}

static void path_at(char *out, int folder, const char *path) {
  *out = 0;
  if (*path != '/') {
    if (folder != AT_FDCWD) path_of(out, folder);
    else if (!getcwd(out, PATH_MAX / 2)) *out = 0;
    strncat(out, "/", 2);
  }
  strncat(out, path, PATH_MAX - strlen(out) - 1);
}

// Counts a call: its number, or 0 if it does not count. Negative, and `errno` set, if it is to fail.
static long enter(char class, const char *call, size_t bytes, const char *path) {
  if (strncmp(path, prefix, prefix_length)) return 0;
  long n = atomic_fetch_add(&events, 1) + 1;
  char line[PATH_MAX + 64];
  int length = snprintf(line, sizeof line, "%c %s %zu %s\n", class, call, bytes, path);
  syscall(SYS_write, log_file, line, length);
  if (fault == KILL && n == at) die();
  if (fault == SIGNAL && n == at) syscall(SYS_kill, getpid(), error);
  if ((fault == ERROR && n == at) || (fault == FULL && n >= at && strchr("WOMLRS", class))) {
    errno = error;
    return -n;
  }
  return n;
}

#define ARMED (owner && owner == getpid())
#define HALVED(n) (fault == HALF && (n) == at)

// A call on paths or descriptors that fails with -1.
#define CALL(class, name, locate, parameters, arguments) \
  int name parameters { \
    static int(*real) parameters; \
    if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
    if (!ARMED) return real arguments; \
    char path[PATH_MAX]; \
    locate; \
    if (enter(class, #name, 0, path) < 0) return -1; \
    return real arguments; \
  }

CALL('R', rename, path_at(path, AT_FDCWD, to), (const char *from, const char *to), (from, to))
CALL('R', renameat, path_at(path, t, to), (int f, const char *from, int t, const char *to), (f, from, t, to))
CALL('R', renameat2, path_at(path, t, to), (int f, const char *from, int t, const char *to, unsigned flags),
     (f, from, t, to, flags))
CALL('L', link, path_at(path, AT_FDCWD, to), (const char *from, const char *to), (from, to))
CALL('L', linkat, path_at(path, t, to), (int f, const char *from, int t, const char *to, int flags),
     (f, from, t, to, flags))
CALL('L', symlink, path_at(path, AT_FDCWD, to), (const char *from, const char *to), (from, to))
CALL('M', mkdir, path_at(path, AT_FDCWD, name), (const char *name, mode_t mode), (name, mode))
CALL('M', mkdirat, path_at(path, folder, name), (int folder, const char *name, mode_t mode), (folder, name, mode))
CALL('U', unlink, path_at(path, AT_FDCWD, name), (const char *name), (name))
CALL('U', unlinkat, path_at(path, folder, name), (int folder, const char *name, int flags), (folder, name, flags))
CALL('U', rmdir, path_at(path, AT_FDCWD, name), (const char *name), (name))
CALL('T', truncate, path_at(path, AT_FDCWD, name), (const char *name, off_t size), (name, size))
CALL('T', truncate64, path_at(path, AT_FDCWD, name), (const char *name, off64_t size), (name, size))
CALL('C', ftruncate, path_of(path, fd), (int fd, off_t size), (fd, size))
CALL('C', ftruncate64, path_of(path, fd), (int fd, off64_t size), (fd, size))
CALL('S', fsync, path_of(path, fd), (int fd), (fd))
CALL('S', fdatasync, path_of(path, fd), (int fd), (fd))

// Only what opens for writing counts.
#define OPEN(name, folder, parameters, before) \
  int name parameters { \
    static int(*real) parameters; \
    if (!real) real = (int(*) parameters)dlsym(RTLD_NEXT, #name); \
    mode_t mode = 0; \
    if (flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE) { \
      va_list rest; \
      va_start(rest, flags); \
      mode = va_arg(rest, mode_t); \
      va_end(rest); \
    } \
    if (!ARMED || !(flags & (O_CREAT | O_TRUNC | O_WRONLY | O_RDWR))) return real(before path, flags, mode); \
    char whole[PATH_MAX]; \
    path_at(whole, folder, path); \
    if (enter('O', #name, 0, whole) < 0) return -1; \
    return real(before path, flags, mode); \
  }
#define FIRST_FOLDER folder,
OPEN(open, AT_FDCWD, (const char *path, int flags, ...), )
OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), )
OPEN(openat, folder, (int folder, const char *path, int flags, ...), FIRST_FOLDER)
OPEN(openat64, folder, (int folder, const char *path, int flags, ...), FIRST_FOLDER)

// A call that gives the number of bytes that it wrote to `fd`; `half` is the same call for the first half of them.
#define WRITE(name, bytes, half, parameters, arguments) \
  ssize_t name parameters { \
    static ssize_t(*real) parameters; \
    if (!real) real = (ssize_t(*) parameters)dlsym(RTLD_NEXT, #name); \
    if (!ARMED) return real arguments; \
    char path[PATH_MAX]; \
    path_of(path, fd); \
    long n = enter('W', #name, bytes, path); \
    if (n < 0) return -1; \
    if (HALVED(n)) { \
      real half; \
      die(); \
    } \
    return real arguments; \
  }

WRITE(write, count, (fd, data, count / 2), (int fd, const void *data, size_t count), (fd, data, count))
WRITE(pwrite, count, (fd, data, count / 2, to), (int fd, const void *data, size_t count, off_t to),
      (fd, data, count, to))
WRITE(pwrite64, count, (fd, data, count / 2, to), (int fd, const void *data, size_t count, off64_t to),
      (fd, data, count, to))
WRITE(writev, n_parts, (fd, parts, n_parts / 2), (int fd, const struct iovec *parts, int n_parts), (fd, parts, n_parts))
WRITE(sendfile, count, (fd, from, start, count / 2), (int fd, int from, off_t *start, size_t count),
      (fd, from, start, count))
WRITE(sendfile64, count, (fd, from, start, count / 2), (int fd, int from, off64_t *start, size_t count),
      (fd, from, start, count))
WRITE(copy_file_range, count, (from, f, fd, t, count / 2, flags),
      (int from, off64_t *f, int fd, off64_t *t, size_t count, unsigned flags), (from, f, fd, t, count, flags))

// numpy's `tofile`.
size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
  static size_t (*real)(const void *, size_t, size_t, FILE *);
  if (!real) real = (size_t(*)(const void *, size_t, size_t, FILE *))dlsym(RTLD_NEXT, "fwrite");
  if (!ARMED) return real(data, size, count, file);
  char path[PATH_MAX];
  path_of(path, fileno(file));
  long n = enter('W', "fwrite", size * count, path);
  if (n < 0) return 0;
  if (HALVED(n)) {
    real(data, 1, size * count / 2, file);
    fflush(file);
    die();
  }
  return real(data, size, count, file);
}
