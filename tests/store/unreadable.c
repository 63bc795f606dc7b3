/* Preloaded, has every read that touches byte UNREADABLE_AT of the file UNREADABLE fail as on a bad disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int is_bad(int descriptor, size_t length, off64_t from)
{
    const char *file = getenv("UNREADABLE"), *at = getenv("UNREADABLE_AT");
    char link[64], path[4096];
    ssize_t found;
    if (!file || !at || from > atol(at) || from + (off64_t)length <= atol(at))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    found = readlink(link, path, sizeof path - 1);
    path[found < 0 ? 0 : found] = 0;
    return !strcmp(path, file);
}

#define REFUSE_OR(...) \
    do { \
        if (is_bad(descriptor, length, from)) { errno = EIO; return -1; } \
        return real(__VA_ARGS__); \
    } while (0)

ssize_t pread64(int descriptor, void *into, size_t length, off64_t from)
{
    ssize_t (*real)(int, void *, size_t, off64_t) = dlsym(RTLD_NEXT, "pread64");
    REFUSE_OR(descriptor, into, length, from);
}

ssize_t pread(int descriptor, void *into, size_t length, off_t from)
{
    ssize_t (*real)(int, void *, size_t, off_t) = dlsym(RTLD_NEXT, "pread");
    REFUSE_OR(descriptor, into, length, from);
}

ssize_t read(int descriptor, void *into, size_t length)
{
    ssize_t (*real)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    off64_t from = lseek64(descriptor, 0, SEEK_CUR);
    REFUSE_OR(descriptor, into, length);
}
