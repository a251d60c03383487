// What ordinary programs need: a sandbox in which these are lost is no use.
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/futex.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/sendfile.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define QUESTION(NAME) static enum verdict NAME(__attribute__((unused)) const struct probe *p)
#define NEEDS(NAME, FUNCTION, REFUSES, REASON) {.name = "need-" NAME, .severity = NEED, .wall = REFUSABLE, .refuses = REFUSES, .ask = FUNCTION, .reason = REASON}
#define NEEDS_NOT_STRICT(NAME, FUNCTION, REFUSES, REASON) \
    {.name = "need-" NAME, .severity = NEED, .wall = REFUSABLE, .refuses = REFUSES, .open_in = "strict", .ask = FUNCTION, .reason = REASON}
#define KEEPS(NAME, FUNCTION, REASON) {.name = "need-" NAME, .severity = NEED, .wall = KEPT, .ask = FUNCTION, .reason = REASON}
#define KEEPS_AT(NAME, FUNCTION, PATH, REASON) {.name = "need-" NAME, .severity = NEED, .wall = KEPT, .ask = FUNCTION, .path = PATH, .reason = REASON}

static int ends_well(pid_t child) {
    int status = 1;
    return child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// A name in the directory for temporary files, which is not /tmp where there are no mounts.
static const char *temporary(const char *name) {
    static char paths[4][512];
    static int next;
    const char *directory = getenv("TMPDIR");
    char *path = paths[next++ % 4];
    snprintf(path, sizeof *paths, "%s/palisade-need-%s", directory && *directory == '/' ? directory : "/tmp", name);
    return path;
}

static int file(void) {
    char name[512];
    strcpy(name, temporary("XXXXXX"));
    int fd = mkstemp(name);
    if (fd >= 0)
        unlink(name);
    return fd;
}

// Processes and threads.
static void *thread_body(void *value) { *(int *)value = 7; return value; }
QUESTION(threads) {
    pthread_t thread;
    int value = 0;
    return VERDICT(!pthread_create(&thread, NULL, thread_body, &value) && !pthread_join(thread, NULL) && value == 7);
}
QUESTION(many_threads) {
    pthread_t all[64];
    int values[64] = {0}, sum = 0;
    for (int i = 0; i < 64; i++)
        if (pthread_create(&all[i], NULL, thread_body, &values[i]))
            return CLOSED;
    for (int i = 0; i < 64; i++) {
        pthread_join(all[i], NULL);
        sum += values[i];
    }
    return VERDICT(sum == 448);
}
QUESTION(forks) { pid_t child = fork(); if (!child) _exit(0); return VERDICT(ends_well(child)); }
QUESTION(spawns) {
    char *arguments[] = {"probe", "ran", NULL}, *none[] = {NULL};
    pid_t child;
    int status = 0;
    return VERDICT(!posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, none) && waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 43);
}
QUESTION(waits_by_pidfd) {
    pid_t child = fork();
    if (!child)
        _exit(0);
    int fd = (int)syscall(SYS_pidfd_open, child, 0);
    siginfo_t info;
    return VERDICT(fd >= 0 && !waitid((idtype_t)3, (id_t)fd, &info, WEXITED));
}
QUESTION(job_control) {
    pid_t child = fork();
    if (!child)
        _exit(setpgid(0, 0) || getpgrp() != getpid());
    return VERDICT(ends_well(child));
}
QUESTION(kills) {
    pid_t child = fork();
    if (!child)
        pause();
    int status = 0;
    return VERDICT(!kill(child, SIGTERM) && waitpid(child, &status, 0) == child && WTERMSIG(status) == SIGTERM);
}
QUESTION(traces) {
    pid_t child = fork();
    if (!child) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
            _exit(1);
        raise(SIGSTOP);
        _exit(0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    if (!WIFSTOPPED(status))
        return CLOSED;
    return VERDICT(!ptrace(PTRACE_CONT, child, NULL, NULL) && ends_well(child));
}
QUESTION(clone3_falls_back) {
    // Either it works or it is not known: a library gives up at anything else.
    return VERDICT(syscall(SYS_clone3, NULL, 0) < 0 && (errno == ENOSYS || errno == EINVAL || errno == EFAULT));
}
QUESTION(priority) { return VERDICT(!setpriority(PRIO_PROCESS, 0, 5) && getpriority(PRIO_PROCESS, 0) == 5); }
QUESTION(affinity) { cpu_set_t set; return VERDICT(!sched_getaffinity(0, sizeof set, &set) && CPU_COUNT(&set) > 0); }
QUESTION(pins) { cpu_set_t set; return VERDICT(!sched_getaffinity(0, sizeof set, &set) && !sched_setaffinity(0, sizeof set, &set)); }
QUESTION(yields) { return VERDICT(!sched_yield()); }
QUESTION(lowers_limits) { struct rlimit l; return VERDICT(!getrlimit(RLIMIT_NOFILE, &l) && (l.rlim_cur = 64, !setrlimit(RLIMIT_NOFILE, &l))); }
QUESTION(names_itself) { char name[16]; return VERDICT(!prctl(PR_SET_NAME, "probe-name") && !prctl(PR_GET_NAME, name) && !strcmp(name, "probe-name")); }
QUESTION(subreaper) { return VERDICT(!prctl(PR_SET_CHILD_SUBREAPER, 1)); }
QUESTION(asks_personality) { return VERDICT(syscall(SYS_personality, 0xffffffffL) >= 0); }

// Memory.
static enum verdict executes_memory(int sharing, int protection) {
    unsigned char code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3};  // mov eax, 42; ret
    unsigned char *page = mmap(NULL, 4096, protection, sharing | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return CLOSED;
    memcpy(page, code, sizeof code);
    if (!(protection & PROT_EXEC) && mprotect(page, 4096, PROT_READ | PROT_EXEC))
        return CLOSED;
    int (*function)(void);
    memcpy(&function, &page, sizeof function);
    return VERDICT(function() == 42);
}
QUESTION(just_in_time) { return executes_memory(MAP_PRIVATE, PROT_READ | PROT_WRITE); }
QUESTION(writable_code) { return executes_memory(MAP_PRIVATE, PROT_READ | PROT_WRITE | PROT_EXEC); }
QUESTION(shares_memory) {
    int *shared = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return CLOSED;
    pid_t child = fork();
    if (!child) { *shared = 5; _exit(0); }
    return VERDICT(ends_well(child) && *shared == 5);
}
QUESTION(large_reservation) { return VERDICT(mmap(NULL, 1UL << 36, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED); }
QUESTION(locks_memory) { char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); return VERDICT(!mlock(page, 4096)); }
QUESTION(memory_file) { int fd = memfd_create("need", MFD_CLOEXEC | MFD_ALLOW_SEALING); return VERDICT(fd >= 0 && !ftruncate(fd, 4096) && !fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK)); }
QUESTION(advises) { char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); return VERDICT(!madvise(page, 4096, MADV_DONTNEED)); }
QUESTION(barriers) { return VERDICT(syscall(SYS_membarrier, 0, 0, 0) >= 0); }
QUESTION(futexes) { int word = 1; return VERDICT(syscall(SYS_futex, &word, FUTEX_WAKE, 1, NULL, NULL, 0) == 0); }

// Waiting.
QUESTION(epolls) {
    int fd = epoll_create1(0), event = eventfd(1, 0);
    struct epoll_event one = {.events = EPOLLIN};
    return VERDICT(!epoll_ctl(fd, EPOLL_CTL_ADD, event, &one) && epoll_wait(fd, &one, 1, 1000) == 1);
}
QUESTION(events) { uint64_t value = 3; int fd = eventfd(0, 0); return VERDICT(write(fd, &value, 8) == 8 && read(fd, &value, 8) == 8 && value == 3); }
QUESTION(timer_descriptors) {
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec soon = {.it_value.tv_nsec = 1};
    uint64_t times;
    return VERDICT(!timerfd_settime(fd, 0, &soon, NULL) && read(fd, &times, 8) == 8);
}
QUESTION(posix_timers) { timer_t timer; struct sigevent none = {.sigev_notify = SIGEV_NONE}; return VERDICT(!timer_create(CLOCK_MONOTONIC, &none, &timer)); }
QUESTION(interval_timers) { struct itimerval later = {.it_value.tv_sec = 9}; return VERDICT(!setitimer(ITIMER_REAL, &later, NULL)); }
QUESTION(signal_descriptors) {
    sigset_t set;
    struct signalfd_siginfo info;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, 0);
    return VERDICT(fd >= 0 && !raise(SIGUSR1) && read(fd, &info, sizeof info) == sizeof info);
}
QUESTION(watches) {
    int fd = inotify_init1(IN_NONBLOCK);
    return VERDICT(fd >= 0 && inotify_add_watch(fd, "/", IN_CREATE) >= 0);
}
QUESTION(polls) { struct pollfd one = {eventfd(1, 0), POLLIN, 0}; return VERDICT(poll(&one, 1, 1000) == 1); }
QUESTION(asynchronous) { unsigned long context = 0; return VERDICT(!syscall(SYS_io_setup, 4, &context)); }
QUESTION(sleeps) { struct timespec short_time = {0, 1000}; return VERDICT(!clock_nanosleep(CLOCK_MONOTONIC, 0, &short_time, NULL)); }

// Sockets and pipes.
QUESTION(pairs) { int e[2]; char c; return VERDICT(!socketpair(AF_UNIX, SOCK_STREAM, 0, e) && write(e[0], "x", 1) == 1 && read(e[1], &c, 1) == 1); }
static enum verdict talks(struct sockaddr *address, socklen_t length, int family) {
    int server = socket(family, SOCK_STREAM, 0), client = socket(family, SOCK_STREAM, 0);
    if (server < 0 || bind(server, address, length) || listen(server, 1) || getsockname(server, address, &length))
        return CLOSED;
    return VERDICT(!connect(client, address, length) && accept(server, NULL, NULL) >= 0);
}
QUESTION(unix_files) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "%s", temporary("socket"));
    unlink(a.sun_path);
    enum verdict verdict = talks((void *)&a, sizeof a, AF_UNIX);
    unlink(a.sun_path);
    return verdict;
}
QUESTION(unix_abstract) { struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = "\0palisade-need"}; return talks((void *)&a, offsetof(struct sockaddr_un, sun_path) + 14, AF_UNIX); }
QUESTION(tcp) { struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; return talks((void *)&a, sizeof a, AF_INET); }
QUESTION(tcp6) { struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT}; return talks((void *)&a, sizeof a, AF_INET6); }
QUESTION(udp) { struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}; int fd = socket(AF_INET, SOCK_DGRAM, 0); return VERDICT(fd >= 0 && !bind(fd, (void *)&a, sizeof a)); }
QUESTION(lists_interfaces) { struct ifaddrs *all = NULL; return VERDICT(!getifaddrs(&all) && all); }
QUESTION(passes_descriptors) {
    int e[2];
    char letter = 'x', space[CMSG_SPACE(sizeof(int))] = {0};
    struct iovec data = {&letter, 1};
    struct msghdr message = {.msg_iov = &data, .msg_iovlen = 1, .msg_control = space, .msg_controllen = sizeof space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &(int){1}, sizeof(int));
    return VERDICT(!socketpair(AF_UNIX, SOCK_STREAM, 0, e) && sendmsg(e[0], &message, 0) == 1 && recvmsg(e[1], &message, 0) == 1);
}
QUESTION(splices) { int a[2], b[2]; return VERDICT(!pipe(a) && !pipe(b) && write(a[1], "x", 1) == 1 && splice(a[0], NULL, b[1], NULL, 1, 0) == 1); }

// System V and POSIX communication.
QUESTION(system_v_memory) { int id = shmget(IPC_PRIVATE, 4096, 0600 | IPC_CREAT); void *at = shmat(id, NULL, 0); shmctl(id, IPC_RMID, NULL); return VERDICT(id >= 0 && at != (void *)-1); }
QUESTION(system_v_semaphore) { int id = semget(IPC_PRIVATE, 1, 0600 | IPC_CREAT); struct sembuf up = {0, 1, 0}; int done = semop(id, &up, 1); semctl(id, 0, IPC_RMID); return VERDICT(id >= 0 && !done); }
QUESTION(system_v_queue) { int id = msgget(IPC_PRIVATE, 0600 | IPC_CREAT); struct { long type; char text[1]; } m = {1, "x"}; int done = msgsnd(id, &m, 1, 0); msgctl(id, IPC_RMID, NULL); return VERDICT(id >= 0 && !done); }
QUESTION(posix_memory) { int fd = shm_open("/palisade-need", O_RDWR | O_CREAT, 0600); int done = ftruncate(fd, 4096); shm_unlink("/palisade-need"); return VERDICT(fd >= 0 && !done); }
QUESTION(posix_semaphore) { sem_t *s = sem_open("/palisade-need", O_CREAT, 0600, 1); int done = s == SEM_FAILED ? -1 : sem_wait(s); sem_unlink("/palisade-need"); return VERDICT(!done); }
QUESTION(posix_queue) { mqd_t q = mq_open("/palisade-need", O_RDWR | O_CREAT, 0600, NULL); int done = q == (mqd_t)-1 ? -1 : mq_send(q, "x", 1, 0); mq_unlink("/palisade-need"); return VERDICT(!done); }

// Files.
QUESTION(locks) { int fd = file(); return VERDICT(fd >= 0 && !flock(fd, LOCK_EX)); }
QUESTION(record_locks) { int fd = file(); struct flock lock = {.l_type = F_WRLCK}; return VERDICT(!fcntl(fd, F_SETLK, &lock) && !fcntl(file(), F_OFD_SETLK, &lock)); }
QUESTION(allocates) { return VERDICT(!fallocate(file(), 0, 0, 65536)); }
QUESTION(copies) { int a = file(), b = file(); return VERDICT(write(a, "abc", 3) == 3 && copy_file_range(a, &(off_t){0}, b, NULL, 3, 0) == 3); }
QUESTION(sends) { int a = file(), e[2]; return VERDICT(write(a, "abc", 3) == 3 && !pipe(e) && sendfile(e[1], a, &(off_t){0}, 3) == 3); }
QUESTION(permissions) { int fd = file(); struct timespec t[2] = {{1, 0}, {1, 0}}; return VERDICT(!fchmod(fd, 0640) && !fchown(fd, getuid(), getgid()) && !futimens(fd, t)); }
QUESTION(names) {
    const char *from = temporary("a"), *to = temporary("b"), *link_name = temporary("c"), *symbolic = temporary("d");
    int fd = open(from, O_CREAT | O_WRONLY, 0600);
    int done = fd < 0 || rename(from, to) || link(to, link_name) || symlink(to, symbolic) || renameat2(AT_FDCWD, to, AT_FDCWD, link_name, RENAME_EXCHANGE);
    unlink(from), unlink(to), unlink(link_name), unlink(symbolic);
    return VERDICT(!done);
}
QUESTION(directories) { const char *name = temporary("directory"); rmdir(name); return VERDICT(!mkdir(name, 0700) && !rmdir(name)); }
QUESTION(fifos) { const char *name = temporary("fifo"); unlink(name); int done = mkfifo(name, 0600); unlink(name); return VERDICT(!done); }
QUESTION(attributes) { char v[8]; int fd = file(); return VERDICT(fgetxattr(fd, "user.none", v, sizeof v) < 0 && errno == ENODATA); }
QUESTION(statx_call) { struct statx own; return VERDICT(!statx(AT_FDCWD, "/", 0, STATX_BASIC_STATS, &own)); }
QUESTION(opens_beneath) { uint64_t how[3] = {O_RDONLY, 0, 8}; return VERDICT(syscall(SYS_openat2, AT_FDCWD, "tmp", how, sizeof how) >= 0 || errno == ENOENT || errno == EXDEV); }
QUESTION(closes_ranges) { return VERDICT(!syscall(SYS_close_range, 100, 200, 0)); }
static enum verdict reads_at(const struct probe *p) { char c; int fd = open(p->path, O_RDONLY); return VERDICT(fd >= 0 && read(fd, &c, 1) == 1); }
static enum verdict writes_at(const struct probe *p) { int fd = open(p->path, O_WRONLY); return VERDICT(fd >= 0 && write(fd, "1", 1) == 1); }
static enum verdict creates_at(const struct probe *p) {
    char name[256];
    const char *home = getenv("HOME");
    snprintf(name, sizeof name, "%s/palisade-need-%d", p->path ? p->path : home ? home : "/nonexistent", getpid());
    int fd = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
    unlink(name);
    return VERDICT(fd >= 0);
}
QUESTION(own_program) { char path[256]; return VERDICT(readlink("/proc/self/exe", path, sizeof path) > 0); }
QUESTION(own_descriptors) { return VERDICT(open("/proc/self/fd/0", O_PATH) >= 0); }
QUESTION(own_terminal) {
    int controller = posix_openpt(O_RDWR | O_NOCTTY);
    struct winsize size = {24, 80, 0, 0};
    if (controller < 0 || grantpt(controller) || unlockpt(controller))
        return CLOSED;
    int terminal = open(ptsname(controller), O_RDWR | O_NOCTTY);
    struct termios settings;
    return VERDICT(terminal >= 0 && !tcgetattr(terminal, &settings) && !syscall(SYS_ioctl, controller, TIOCSWINSZ, &size) && !syscall(SYS_ioctl, terminal, TIOCSCTTY, 0));
}

// The machine, and confining oneself further.
QUESTION(randomness) { char c[16]; return VERDICT(getrandom(c, sizeof c, 0) == sizeof c); }
QUESTION(kernel_name) { struct utsname own; return VERDICT(!uname(&own)); }
QUESTION(memory_size) { struct sysinfo own; return VERDICT(!sysinfo(&own)); }
QUESTION(landlocks) { return VERDICT(syscall(SYS_landlock_create_ruleset, NULL, 0, 1) > 0); }
QUESTION(filters) { unsigned action = 0; return VERDICT(!syscall(SYS_seccomp, 2, 0, &action)); }
QUESTION(usage) { struct rusage own; return VERDICT(!getrusage(RUSAGE_SELF, &own)); }
QUESTION(modern_call_unknown) {
    // A number no kernel has: what programs try first must look like an older kernel.
    return VERDICT(syscall(2000) < 0 && errno == ENOSYS);
}

const struct probe need_probes[] = {
    KEEPS("threads", threads, "most programs"),
    KEEPS("many-threads", many_threads, "node, java, go, databases"),
    KEEPS("fork", forks, "shells"),
    KEEPS("spawn", spawns, "build tools: vfork and exec"),
    NEEDS("pidfd-wait", waits_by_pidfd, "pidfd_open", "python, go, systemd's tools"),
    NEEDS("job-control", job_control, "setpgid", "shells"),
    KEEPS("signals", kills, "shells, supervisors"),
    NEEDS_NOT_STRICT("trace-children", traces, "ptrace", "strace, gdb, leak sanitizers"),
    KEEPS("clone3-fallback", clone3_falls_back, "every C library"),
    NEEDS("lower-priority", priority, "setpriority", "nice, npm"),
    NEEDS("processors", affinity, "sched_getaffinity", "nproc, java, go, python"),
    NEEDS_NOT_STRICT("pin-processors", pins, "sched_setaffinity", "taskset, numerical libraries, perf tools"),
    NEEDS("yield", yields, "sched_yield", "spin locks"),
    KEEPS("lower-limits", lowers_limits, "ulimit"),
    NEEDS("name", names_itself, "prctl", "thread names"),
    NEEDS("subreaper", subreaper, "prctl", "supervisors"),
    NEEDS("ask-personality", asks_personality, "personality", "gcc, gdb, setarch"),
    KEEPS("just-in-time", just_in_time, "node, java, pypy, .NET"),
    KEEPS("writable-code", writable_code, "libffi, old just-in-time compilers"),
    KEEPS("shared-memory", shares_memory, "databases"),
    KEEPS("large-reservation", large_reservation, "sanitizers, go, java"),
    NEEDS("lock-memory", locks_memory, "mlock", "ssh, gpg, databases"),
    NEEDS("memory-file", memory_file, "memfd_create", "graphics, runtimes"),
    NEEDS("memory-advice", advises, "madvise", "allocators"),
    NEEDS("memory-barrier", barriers, "membarrier", "java, user-space RCU"),
    KEEPS("futex", futexes, "locks"),
    NEEDS("epoll", epolls, "epoll_create1", "node, nginx, python"),
    NEEDS("event-descriptor", events, "eventfd2", "node, go"),
    NEEDS("timer-descriptor", timer_descriptors, "timerfd_create", "event loops"),
    NEEDS("posix-timer", posix_timers, "timer_create", "java, timeout"),
    NEEDS("interval-timer", interval_timers, "setitimer", "profilers, databases"),
    NEEDS("signal-descriptor", signal_descriptors, "signalfd4", "event loops, databases"),
    NEEDS("watch-files", watches, "inotify_init1", "bundlers, editors, tail"),
    NEEDS("poll", polls, "poll", "most programs"),
    NEEDS("asynchronous-io", asynchronous, "io_setup", "databases"),
    NEEDS("sleep", sleeps, "clock_nanosleep", "sleep"),
    NEEDS("socket-pair", pairs, "socketpair", "node's children"),
    NEEDS("unix-socket", unix_files, "socket", "databases, agents"),
    NEEDS("abstract-socket", unix_abstract, "socket", "D-Bus, test runners"),
    NEEDS("tcp", tcp, "socket", "test servers on loopback"),
    NEEDS("tcp6", tcp6, "socket", "node listens on both"),
    NEEDS("udp", udp, "socket", "name look-up"),
    NEEDS("interfaces", lists_interfaces, "socket", "node, java, go ask for addresses by netlink"),
    NEEDS("pass-descriptors", passes_descriptors, "sendmsg", "multi-process servers"),
    NEEDS("splice", splices, "splice", "cat, git, servers"),
    NEEDS("system-v-memory", system_v_memory, "shmget", "postgres, X11"),
    NEEDS("system-v-semaphore", system_v_semaphore, "semget", "old databases, fakeroot"),
    NEEDS("system-v-queue", system_v_queue, "msgget", "fakeroot"),
    KEEPS("posix-memory", posix_memory, "python's multiprocessing, postgres, browsers"),
    KEEPS("posix-semaphore", posix_semaphore, "python's multiprocessing"),
    NEEDS_NOT_STRICT("posix-queue", posix_queue, "mq_open", "few programs"),
    NEEDS("lock-file", locks, "flock", "package managers, git"),
    KEEPS("record-locks", record_locks, "sqlite"),
    NEEDS("allocate", allocates, "fallocate", "databases"),
    NEEDS("copy-range", copies, "copy_file_range", "cp, python"),
    NEEDS("send-file", sends, "sendfile", "servers, python"),
    NEEDS("permissions", permissions, "fchmod", "tar, git"),
    NEEDS("names", names, "renameat2", "every build"),
    KEEPS("directories", directories, "every build"),
    NEEDS_NOT_STRICT("fifo", fifos, "mknodat", "shell scripts, make's job server"),
    NEEDS("attributes", attributes, "fgetxattr", "cp -a, tar, ls"),
    NEEDS("statx", statx_call, "statx", "ls, node"),
    NEEDS("open-beneath", opens_beneath, "openat2", "go, container tools"),
    NEEDS("close-range", closes_ranges, "close_range", "python's subprocess"),
    KEEPS_AT("read-cpuinfo", reads_at, "/proc/cpuinfo", "numerical libraries choose code by it"),
    KEEPS_AT("read-meminfo", reads_at, "/proc/meminfo", "node, java, free"),
    KEEPS_AT("read-status", reads_at, "/proc/self/status", "monitors"),
    KEEPS_AT("read-maps", reads_at, "/proc/self/maps", "sanitizers, crash reports"),
    KEEPS_AT("read-stat", reads_at, "/proc/stat", "top, node"),
    KEEPS_AT("read-uptime", reads_at, "/proc/uptime", "ps, node"),
    KEEPS_AT("read-mounts", reads_at, "/proc/self/mountinfo", "df, java"),
    KEEPS_AT("read-overcommit", reads_at, "/proc/sys/vm/overcommit_memory", "allocators, redis"),
    KEEPS_AT("read-somaxconn", reads_at, "/proc/sys/net/core/somaxconn", "go, redis"),
    KEEPS_AT("read-random", reads_at, "/dev/urandom", "old programs"),
    KEEPS_AT("read-zero", reads_at, "/dev/zero", "dd"),
    KEEPS_AT("write-null", writes_at, "/dev/null", "every shell script"),
    KEEPS_AT("write-own-name", writes_at, "/proc/self/comm", "thread names"),
    KEEPS_AT("write-oom-score", writes_at, "/proc/self/oom_score_adj", "postgres, chromium make themselves likelier"),
    KEEPS_AT("write-tmp", creates_at, "/tmp", "most programs"),
    KEEPS_AT("write-shm", creates_at, "/dev/shm", "browsers, python"),
    KEEPS_AT("write-home", creates_at, NULL, "npm, pip, git"),
    KEEPS("own-program", own_program, "node, python, java find themselves"),
    KEEPS("own-descriptors", own_descriptors, "shells: /dev/stdin"),
    KEEPS("own-terminal", own_terminal, "script, expect, test runners, tmux"),
    NEEDS("randomness", randomness, "getrandom", "every program with keys"),
    KEEPS("kernel-name", kernel_name, "uname"),
    NEEDS("memory-size", memory_size, "sysinfo", "node, C library"),
    NEEDS("landlock", landlocks, "landlock_create_ruleset", "sandboxes inside"),
    NEEDS("filter", filters, "seccomp", "sandboxes inside, browsers"),
    NEEDS("usage", usage, "getrusage", "time, node"),
    KEEPS("unknown-call", modern_call_unknown, "C libraries that try new calls first"),
    {0},
};
