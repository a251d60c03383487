// Other processes, namespaces, descriptors, terminals, shared memory, and the way to the runtime's own program.
#include "probe.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

extern char **environ;

#define ASK(NAME, SEVERITY, WALL, WHERE, REASON, FUNCTION) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .open_in = WHERE, .reason = REASON, .ask = FUNCTION}
#define AT(NAME, SEVERITY, WALL, PATH, REASON, FUNCTION) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .path = PATH, .reason = REASON, .ask = FUNCTION}
// Shared where there are no namespaces: Landlock and the filter stand between.
#define NAMESPACE(NAME, SEVERITY, WALL, PATH, REASON) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .open_in = "no-namespace", .path = PATH, .reason = REASON, .ask = same_namespace}

// The namespace named in `path` is the one of whoever started the sandbox (fixture ns-NAME).
static enum verdict same_namespace(const struct probe *p) {
    char name[64], link[128], own[128] = {0};
    snprintf(name, sizeof name, "ns-%s", p->path);
    snprintf(link, sizeof link, "/proc/self/ns/%s", p->path);
    const char *theirs = fixture(name);
    if (!theirs || readlink(link, own, sizeof own - 1) < 0)
        return ABSENT_HERE;
    return VERDICT(!strcmp(own, theirs));
}

static enum verdict sentinel(const struct probe *p) {
    const char *mark = fixture("sentinel");
    DIR *processes = opendir("/proc");
    struct dirent *entry;
    (void)p;
    if (!mark)
        return ABSENT_HERE;
    while (processes && (entry = readdir(processes))) {
        char path[300], line[4096] = {0};
        if (!isdigit((unsigned char)entry->d_name[0]) || atoi(entry->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/%s/cmdline", entry->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? 0 : read(fd, line, sizeof line - 1);
        close(fd);
        // The probe's own command line carries the mark as a fixture.
        if (length > 0 && memmem(line, (size_t)length, mark, strlen(mark)) && !memmem(line, (size_t)length, "sentinel=", 9))
            return OPEN;
    }
    return CLOSED;
}

static enum verdict reads_at(const struct probe *p) {
    char text[64];
    int fd = open(p->path, O_RDONLY | O_CLOEXEC);
    return VERDICT(fd >= 0 && read(fd, text, sizeof text) > 0);
}
static enum verdict opens_at(const struct probe *p) { return VERDICT(open(p->path, O_RDONLY | O_CLOEXEC) >= 0); }
// A program that runs is busy, and can be written as soon as it has ended.
static enum verdict writes_at(const struct probe *p) { return VERDICT(open(p->path, O_WRONLY | O_CLOEXEC) >= 0 || errno == ETXTBSY); }
static enum verdict links_at(const struct probe *p) {
    char target[PATH_MAX];
    return VERDICT(readlink(p->path, target, sizeof target) > 0);
}
static enum verdict lists_at(const struct probe *p) { return VERDICT(opendir(p->path) != NULL); }

// Mapped addresses of the init's program: nought is shown to those who may not know.
static enum verdict init_layout(const struct probe *p) {
    char text[64] = {0};
    int fd = open("/proc/1/maps", O_RDONLY | O_CLOEXEC);
    (void)p;
    return VERDICT(fd >= 0 && read(fd, text, sizeof text - 1) > 0);
}

static enum verdict seize_init(const struct probe *p) {
    (void)p;
    enum verdict verdict = served(ptrace(PTRACE_SEIZE, 1, NULL, NULL));
    ptrace(PTRACE_DETACH, 1, NULL, NULL);
    return verdict;
}
static enum verdict init_memory(const struct probe *p) {
    char byte;
    struct iovec here = {&byte, 1}, there = {(void *)0x400000, 1};
    (void)p;
    return VERDICT(process_vm_readv(1, &here, 1, &there, 1, 0) == 1 || errno == EFAULT);
}
static enum verdict init_descriptor(const struct probe *p) {
    (void)p;
    int init = (int)syscall(SYS_pidfd_open, 1, 0);
    return VERDICT(init >= 0 && syscall(SYS_pidfd_getfd, init, 0, 0) >= 0);
}
static enum verdict init_limits(const struct probe *p) {
    struct rlimit old;
    (void)p;
    return VERDICT(!prlimit(1, RLIMIT_NOFILE, NULL, &old));
}

static enum verdict descriptors(const struct probe *p) {
    (void)p;
    // The runner has a pipe of its own to answer by; what is left of the start lies at or above this number.
    const char *passed = fixture("descriptor");
    return VERDICT(passed && fcntl(atoi(passed), F_GETFD) >= 0);
}
static enum verdict directory_descriptor(const struct probe *p) {
    (void)p;
    for (int fd = 0; fd < 1024; fd++) {
        struct stat own;
        if (!fstat(fd, &own) && S_ISDIR(own.st_mode))
            return OPEN;
    }
    return CLOSED;
}
static enum verdict working_directory(const struct probe *p) {
    char path[PATH_MAX];
    (void)p;
    return VERDICT(syscall(SYS_getcwd, path, sizeof path) < 0 || path[0] != '/');
}
static enum verdict terminal(const struct probe *p) {
    const char *expected = fixture("terminal");
    (void)p;
    // The runner has left the terminal's session; the parent, which it was asked from, is still in it.
    char path[64], text[512] = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", getppid());
    int fd = open(path, O_RDONLY | O_CLOEXEC), number = 0;
    if (!expected || fd < 0 || read(fd, text, sizeof text - 1) <= 0)
        return ABSENT_HERE;
    char *rest = strrchr(text, ')');
    return VERDICT(rest && sscanf(rest + 1, " %*c %*d %*d %*d %d", &number) == 1 && number != 0);
}
static enum verdict environment(const struct probe *p) {
    (void)p;
    for (char **one = environ; *one; one++)
        if (strstr(*one, "palisade-probe-secret"))
            return OPEN;
    return CLOSED;
}
static enum verdict groups(const struct probe *p) {
    gid_t all[256];
    int count = getgroups(256, all);
    (void)p;
    for (int i = 0; i < count; i++)
        if (all[i] != getgid() && all[i] != getegid())
            return OPEN;
    return CLOSED;
}

static enum verdict system_v_memory(const struct probe *p) {
    const char *key = fixture("shm-key");
    (void)p;
    return key ? VERDICT(shmget((key_t)atoi(key), 0, 0) >= 0) : ABSENT_HERE;
}
static enum verdict posix_queue(const struct probe *p) {
    const char *name = fixture("queue");
    (void)p;
    return name ? VERDICT(mq_open(name, O_RDONLY) != (mqd_t)-1) : ABSENT_HERE;
}
static enum verdict posix_memory(const struct probe *p) {
    const char *name = fixture("shm");
    (void)p;
    return name ? VERDICT(shm_open(name, O_RDONLY, 0) >= 0) : ABSENT_HERE;
}

static enum verdict cgroup_path(const struct probe *p) {
    char line[1024];
    FILE *file = fopen("/proc/self/cgroup", "re");
    (void)p;
    while (file && fgets(line, sizeof line, file)) {
        char *path = strrchr(line, ':');
        if (path && strcmp(path, ":/\n"))
            return OPEN;
    }
    return CLOSED;
}
static enum verdict unbounded_processes(const struct probe *p) {
    struct rlimit limit;
    (void)p;
    return VERDICT(!getrlimit(RLIMIT_NPROC, &limit) && limit.rlim_cur > 32768);
}
static enum verdict core_dumps(const struct probe *p) {
    // Read from the parent: the runner has taken its own away.
    struct rlimit limit;
    (void)p;
    return VERDICT(!prlimit(getppid(), RLIMIT_CORE, NULL, &limit) && limit.rlim_cur > 0);
}
static enum verdict speaks_for_oom(const struct probe *p) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    (void)p;
    return VERDICT(fd >= 0 && write(fd, "-500", 4) == 4);
}
static enum verdict signals_sentinel(const struct probe *p) {
    const char *pid = fixture("pid");
    (void)p;
    return pid ? VERDICT(!kill(atoi(pid), 0)) : ABSENT_HERE;
}
static enum verdict mapped_ids(const struct probe *p) {
    unsigned inside, outside, count;
    FILE *file = fopen("/proc/self/uid_map", "re");
    (void)p;
    while (file && fscanf(file, "%u %u %u", &inside, &outside, &count) == 3)
        if (outside == 0)
            return OPEN;
    return CLOSED;
}

const struct probe process_probes[] = {
    NAMESPACE("namespace-user", HIGH, HOST, "user", "the host's user namespace"),
    NAMESPACE("namespace-mount", HIGH, HOST, "mnt", "the host's mounts"),
    NAMESPACE("namespace-pid", HIGH, HOST, "pid", "the host's processes"),
    NAMESPACE("namespace-ipc", HIGH, HOST, "ipc", "the host's shared memory"),
    NAMESPACE("namespace-uts", LOW, HOST, "uts", "the host's name"),
    NAMESPACE("namespace-cgroup", LOW, HOST, "cgroup", "the host's cgroup paths"),
    NAMESPACE("namespace-net", HIGH, NETWORK, "net", "the host's network"),
    {.name = "namespace-time", .severity = LOW, .wall = HOST, .path = "time", .ask = same_namespace, .open_in = "default strict compat task",
     .reason = "how long the machine has been up; no process or file of it is reached, and monotonic clocks stay comparable"},
    ASK("host-root-mapped", HIGH, HOST, 0, "root inside is root outside", mapped_ids),
    ASK("host-processes", HIGH, ORDINARY, 0, "seeing the host's processes", sentinel),
    ASK("host-signal", HIGH, HOST, 0, "signals to the host's processes", signals_sentinel),
    // The sandbox's first process is the runtime's own.
    AT("init-environment", HIGH, INIT, "/proc/1/environ", "the caller's secrets in the first process", reads_at),
    AT("init-memory-file", HIGH, INIT, "/proc/1/mem", "the runtime's memory", opens_at),
    AT("init-layout", MEDIUM, INIT, "/proc/1/maps", "where the runtime lies in memory", init_layout),
    AT("init-executable-link", MEDIUM, INIT, "/proc/1/exe", "where the runtime lies on the host", links_at),
    AT("init-executable", HIGH, INIT, "/proc/1/exe", "the runtime's own program (CVE-2019-5736)", opens_at),
    AT("init-executable-write", HIGH, ABSENT, "/proc/1/exe", "overwriting the runtime (CVE-2019-5736)", writes_at),
    AT("init-root", HIGH, INIT, "/proc/1/root/", "the first process' root", lists_at),
    AT("init-working-directory", HIGH, INIT, "/proc/1/cwd/", "the first process' directory", lists_at),
    AT("init-descriptors", HIGH, INIT, "/proc/1/fd", "descriptors of the runtime (CVE-2024-21626)", lists_at),
    AT("init-stack", LOW, INIT, "/proc/1/syscall", "what the runtime is doing", opens_at),
    ASK("init-trace", HIGH, INIT, 0, "tracing the first process (CVE-2016-9962)", seize_init),
    ASK("init-read-memory", HIGH, INIT, 0, "reading the first process", init_memory),
    ASK("init-take-descriptor", HIGH, INIT, 0, "taking the first process' descriptors", init_descriptor),
    ASK("init-limits", LOW, INIT, "default strict compat task", "limits of the first process, which has the command's user id; a sandbox can end only itself by them", init_limits),
    // What is inherited.
    ASK("inherited-descriptor", HIGH, ORDINARY, 0, "a descriptor of the caller's", descriptors),
    ASK("inherited-directory", HIGH, ORDINARY, 0, "a directory of the host (CVE-2024-21626)", directory_descriptor),
    ASK("inherited-working-directory", HIGH, ABSENT, 0, "a directory outside the root (CVE-2024-21626)", working_directory),
    ASK("inherited-terminal", MEDIUM, ORDINARY, 0, "the caller's terminal as the controlling one", terminal),
    ASK("inherited-environment", HIGH, ORDINARY, 0, "secrets among the caller's variables", environment),
    ASK("inherited-groups", MEDIUM, GROUPS, "default strict compat task", "files that the caller reaches through groups; with one id mapped the kernel refuses to drop them, with --userns range they are dropped", groups),
    ASK("inherited-cgroup-path", LOW, ABSENT, 0, "where the sandbox lies among the host's cgroups", cgroup_path),
    // Shared memory.
    ASK("host-system-v-memory", HIGH, ORDINARY, 0, "shared memory of the host", system_v_memory),
    ASK("host-posix-queue", HIGH, ORDINARY, 0, "message queues of the host", posix_queue),
    ASK("host-posix-memory", HIGH, ORDINARY, 0, "shared memory of the host", posix_memory),
    // Bounds.
    ASK("unbounded-processes", MEDIUM, ORDINARY, 0, "a fork bomb takes the machine along", unbounded_processes),
    ASK("core-dumps", LOW, ABSENT, 0, "the host's core dump handler", core_dumps),
    ASK("oom-score", LOW, ABSENT, 0, "the out-of-memory killer takes others first", speaks_for_oom),
    {0},
};
