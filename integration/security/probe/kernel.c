// System calls that an ordinary user may make on an ordinary machine, and that a sandbox has no use for.
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/kd.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#ifndef SYS_quotactl_fd
#define SYS_quotactl_fd 443
#endif
#ifndef SYS_set_mempolicy_home_node
#define SYS_set_mempolicy_home_node 450
#endif
#ifndef SYS_statmount
#define SYS_statmount 457
#define SYS_listmount 458
#endif
#define SYS_lsm_get_self_attr_number 459
#define SYS_lsm_set_self_attr_number 460
#define SYS_lsm_list_modules_number 461
#define SYS_file_getattr_number 468
#define SYS_file_setattr_number 469

#define ABOVE_32_BITS (1L << 32)
#define CALL(NAME, SEVERITY, WHERE, REASON, ...) \
    {.name = NAME, .severity = SEVERITY, .wall = FILTER, .open_in = WHERE, .reason = REASON, CALL_ARGUMENTS(__VA_ARGS__)}
#define CALL_ARGUMENTS(NUMBER, ...) .number = NUMBER, .arguments = {__VA_ARGS__}
#define ASK(NAME, SEVERITY, WHERE, REASON, FUNCTION) \
    {.name = NAME, .severity = SEVERITY, .wall = FILTER, .open_in = WHERE, .reason = REASON, .ask = FUNCTION}

#define NOWHERE ""
#define EVERYWHERE "default strict compat task"

// A new process with these flags: served when there is a child to wait for.
static enum verdict clones(unsigned long flags) {
    long child = syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    if (child == 0)
        _exit(0);
    if (child > 0)
        waitpid((pid_t)child, NULL, 0);
    return served(child);
}

static enum verdict clone_user(const struct probe *p) { (void)p; return clones(CLONE_NEWUSER); }
static enum verdict clone_user_net(const struct probe *p) { (void)p; return clones(CLONE_NEWUSER | CLONE_NEWNET); }
static enum verdict clone_high_bits(const struct probe *p) { (void)p; return clones(CLONE_NEWUSER | (1UL << 40)); }

static enum verdict clone3_user(const struct probe *p) {
    (void)p;
    uint64_t arguments[8] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD, 0, 0, 0};
    long child = syscall(SYS_clone3, arguments, sizeof arguments);
    if (child == 0)
        _exit(0);
    return served(child);
}

static enum verdict old_abi(const struct probe *p) {
    (void)p;
    long result;
    // getpid(2) of i386.
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(20L) : "memory", "r8", "r9", "r10", "r11");
    return VERDICT(result > 0);
}

static enum verdict ioctl_on_pipe(unsigned long request) {
    int ends[2];
    char letter = 'x';
    if (pipe(ends))
        return CLOSED;
    return served(syscall(SYS_ioctl, ends[0], request, &letter));
}
static enum verdict tiocsti(const struct probe *p) { (void)p; return ioctl_on_pipe(0x5412); }
static enum verdict tiocsti_high(const struct probe *p) { (void)p; return ioctl_on_pipe(0x5412UL | 1UL << 32); }
static enum verdict tioclinux(const struct probe *p) { (void)p; return ioctl_on_pipe(0x541c); }
static enum verdict tioccons(const struct probe *p) { (void)p; return ioctl_on_pipe(0x541d); }
static enum verdict tiocsetd(const struct probe *p) { (void)p; return ioctl_on_pipe(0x5423); }
static enum verdict kdsetmode(const struct probe *p) { (void)p; return ioctl_on_pipe(KDSETMODE); }

static enum verdict add_key(const struct probe *p) {
    (void)p;
    return served(syscall(SYS_add_key, "user", "palisade-probe", "x", 1, KEY_SPEC_PROCESS_KEYRING));
}
static enum verdict request_key(const struct probe *p) {
    (void)p;
    return served(syscall(SYS_request_key, "user", "palisade-probe-none", NULL, 0));
}
static enum verdict traceme(const struct probe *p) {
    (void)p;
    return served(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}
// A copy of this program in memory is executed: no file system's noexec sees it.
static enum verdict fileless(const struct probe *p) {
    (void)p;
    int self = open("/proc/self/exe", O_RDONLY), memory = (int)syscall(SYS_memfd_create, "probe", 0);
    static char buffer[1 << 16];
    ssize_t length;
    if (self < 0 || memory < 0)
        return CLOSED;
    while ((length = read(self, buffer, sizeof buffer)) > 0)
        if (write(memory, buffer, (size_t)length) != length)
            return CLOSED;
    pid_t child = fork();
    if (child == 0) {
        char *arguments[] = {"probe", "ran", NULL}, *none[] = {NULL};
        syscall(SYS_execveat, memory, "", arguments, none, AT_EMPTY_PATH);
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return VERDICT(WIFEXITED(status) && WEXITSTATUS(status) == 43);
}

const struct probe kernel_probes[] = {
    // Namespaces: each gives a fresh set of capabilities over kernel code that root alone reached before.
    CALL("unshare-user", HIGH, NOWHERE, "a user namespace of its own: all capabilities in it", SYS_unshare, CLONE_NEWUSER),
    CALL("unshare-user-mount", HIGH, NOWHERE, "a mount namespace of its own", SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS),
    CALL("unshare-user-net", HIGH, NOWHERE, "a network namespace of its own: netfilter, traffic control", SYS_unshare, CLONE_NEWUSER | CLONE_NEWNET),
    CALL("unshare-user-time", MEDIUM, NOWHERE, "clocks of its own", SYS_unshare, CLONE_NEWUSER | CLONE_NEWTIME),
    CALL("unshare-high-bits", HIGH, NOWHERE, "flags the filter compares as 64 bits and the kernel as 32", SYS_unshare, CLONE_NEWUSER | ABOVE_32_BITS),
    ASK("clone-user", HIGH, NOWHERE, "a user namespace through clone", clone_user),
    ASK("clone-user-net", HIGH, NOWHERE, "a network namespace through clone", clone_user_net),
    ASK("clone-high-bits", HIGH, NOWHERE, "clone's flags with bits the kernel ignores (CVE-2019-10063's kind)", clone_high_bits),
    ASK("clone3-user", HIGH, NOWHERE, "clone3 hides its flags in memory, where no filter can look", clone3_user),
    CALL("setns", HIGH, NOWHERE, "joining namespaces by descriptor", SYS_setns, -1, 0),
    // Other ways of entering the kernel.
    ASK("i386-calls", HIGH, NOWHERE, "the 32-bit call table, whose numbers mean other calls", old_abi),
    CALL("x32-unshare", HIGH, NOWHERE, "the x32 numbers of the same table", SYS_unshare | 0x40000000, CLONE_NEWUSER),
    CALL("x32-bpf", HIGH, NOWHERE, "the x32 numbers of the same table", SYS_bpf | 0x40000000, 9999, 0, 0),
    CALL("number-high-bits", MEDIUM, NOWHERE, "a call number with bits above the 32 the filter sees", SYS_bpf | ABOVE_32_BITS, 9999, 0, 0),
    // Large interfaces with a history of holes.
    CALL("bpf", HIGH, NOWHERE, "programs in the kernel", SYS_bpf, 9999, 0, 0),
    CALL("perf-event-open", HIGH, NOWHERE, "performance counters: a large interface, side channels", SYS_perf_event_open, 0, 0, -1, -1, 0),
    CALL("userfaultfd", HIGH, NOWHERE, "page faults handled by the program: makes kernel races winnable", SYS_userfaultfd, 1),
    CALL("io-uring-setup", HIGH, NOWHERE, "calls that no filter sees", SYS_io_uring_setup, 0, 0),
    CALL("io-uring-enter", HIGH, NOWHERE, "calls that no filter sees", SYS_io_uring_enter, -1, 0, 0, 0, 0, 0),
    CALL("io-uring-register", MEDIUM, NOWHERE, "calls that no filter sees", SYS_io_uring_register, -1, 0, 0, 0),
    CALL("fanotify-init", MEDIUM, NOWHERE, "watching whole file systems", SYS_fanotify_init, 0x200, 0),
    CALL("fanotify-mark", MEDIUM, NOWHERE, "watching whole file systems", SYS_fanotify_mark, -1, 0, 0, -1, 0),
    CALL("fsconfig", MEDIUM, NOWHERE, "configuring file systems", SYS_fsconfig, -1, 0, 0, 0, 0),
    CALL("mount-setattr-size", MEDIUM, NOWHERE, "changing mounts", SYS_mount_setattr, -1, TEXT(""), 0, 0, 0),
    // Keyrings belong to the user, not to a namespace.
    CALL("keyctl", HIGH, NOWHERE, "the caller's session keyring", SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0),
    CALL("keyctl-join", HIGH, NOWHERE, "keyrings are not namespaced", SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, 0),
    ASK("add-key", HIGH, NOWHERE, "keyrings are not namespaced", add_key),
    ASK("request-key", HIGH, NOWHERE, "starts a helper of the host's", request_key),
    // Reaching into other processes, or past path checks.
    CALL("pidfd-getfd", HIGH, NOWHERE, "descriptors of another process", SYS_pidfd_getfd, -1, 0, 0),
    CALL("process-vm-readv", MEDIUM, "compat", "memory of another process", SYS_process_vm_readv, 1, 0, 0, 0, 0, 0),
    CALL("process-vm-writev", MEDIUM, "compat", "memory of another process", SYS_process_vm_writev, 1, 0, 0, 0, 0, 0),
    CALL("process-madvise", LOW, "compat", "memory advice to another process", SYS_process_madvise, -1, 0, 0, 0, 0),
    CALL("kcmp", LOW, "compat", "kernel pointers compared", SYS_kcmp, -1, -1, 0, 0, 0),
    CALL("open-by-handle-at", HIGH, NOWHERE, "files by number, past every path (shocker)", SYS_open_by_handle_at, -1, 0, 0),
    CALL("name-to-handle-at", LOW, "compat", "the numbers open_by_handle_at takes", SYS_name_to_handle_at, AT_FDCWD, TEXT("/"), 0, 0, 0),
    ASK("ptrace-child", LOW, "default compat task", "debuggers and sanitizers trace their own children: processes of the sandbox alone", traceme),
    CALL("quotactl", MEDIUM, NOWHERE, "disk quotas of the host", SYS_quotactl, -1, 0, 0, 0),
    CALL("quotactl-fd", MEDIUM, NOWHERE, "disk quotas of the host", SYS_quotactl_fd, -1, 0, 0, 0),
    CALL("move-pages", MEDIUM, NOWHERE, "where another process' memory lies", SYS_move_pages, 0, 0, 0, 0, 0, 0),
    CALL("migrate-pages", MEDIUM, NOWHERE, "moving another process' memory", SYS_migrate_pages, 0, 0, 0, 0),
    CALL("mbind", LOW, "compat", "memory placement: kernel holes in the past", SYS_mbind, 0, 0, 0, 0, 0, 0),
    CALL("set-mempolicy", LOW, "compat", "memory placement", SYS_set_mempolicy, 0, 0, 0),
    CALL("get-mempolicy", LOW, "compat", "memory placement", SYS_get_mempolicy, 0, 0, 0, 0, 0),
    CALL("set-mempolicy-home-node", LOW, "compat", "memory placement", SYS_set_mempolicy_home_node, 0, 0, 0, 0),
    // Rarely used corners.
    CALL("modify-ldt", LOW, "compat", "segment tables: kernel holes in the past", SYS_modify_ldt, 0, 0, 0),
    CALL("vmsplice", LOW, "compat", "pages in pipes: kernel holes in the past", SYS_vmsplice, -1, 0, 0, 0),
    CALL("remap-file-pages", LOW, NOWHERE, "obsolete memory call: kernel holes in the past", SYS_remap_file_pages, 0, 0, 0, 0, 0),
    CALL("memfd-secret", LOW, NOWHERE, "memory that nobody can inspect", SYS_memfd_secret, ~0L),
    CALL("lsm-get-self-attr", LOW, NOWHERE, "labels of what protects the host", SYS_lsm_get_self_attr_number, 100, 0, 0, 0),
    CALL("lsm-set-self-attr", LOW, NOWHERE, "changing one's own label", SYS_lsm_set_self_attr_number, 100, 0, 0, 0),
    CALL("lsm-list-modules", LOW, NOWHERE, "what protects the host", SYS_lsm_list_modules_number, 0, 0, 0),
    CALL("file-getattr", LOW, NOWHERE, "a new call that nothing needs", SYS_file_getattr_number, AT_FDCWD, TEXT("/"), 0, 0, 0),
    CALL("file-setattr", LOW, NOWHERE, "flags of files by a new call", SYS_file_setattr_number, AT_FDCWD, TEXT("/"), 0, 0, 0),
    CALL("sysfs", LOW, NOWHERE, "an obsolete call: which file systems the kernel has", SYS_sysfs, 3, 0, 0),
    CALL("ustat", LOW, NOWHERE, "an obsolete call: file systems by device number, mounted here or not", SYS_ustat, 0, 0),
    CALL("uselib", LOW, NOWHERE, "an obsolete call: kernel holes in the past", SYS_uselib, TEXT("/")),
    CALL("statmount", LOW, "default compat task", "descriptions of the sandbox's own mounts; /proc/self/mountinfo says the same", SYS_statmount, 0, 0, 0, 0),
    CALL("listmount", LOW, "default compat task", "the sandbox's own mounts; /proc/self/mountinfo says the same", SYS_listmount, 0, 0, 0, 0),
    CALL("settimeofday", MEDIUM, NOWHERE, "the host's clock", SYS_settimeofday, 1, 0),
    CALL("clock-settime", MEDIUM, NOWHERE, "the host's clock", SYS_clock_settime, 0, 1),
    CALL("clock-adjtime", LOW, NOWHERE, "the state of the host's clock", SYS_clock_adjtime, 0, 1),
    CALL("adjtimex", LOW, NOWHERE, "the state of the host's clock", SYS_adjtimex, 1),
    // Terminals.
    ASK("ioctl-tiocsti", HIGH, NOWHERE, "typing into the caller's terminal (CVE-2017-5226)", tiocsti),
    ASK("ioctl-tiocsti-high-bits", HIGH, NOWHERE, "the same with bits the kernel ignores (CVE-2019-10063)", tiocsti_high),
    ASK("ioctl-tioclinux", HIGH, NOWHERE, "pasting into the console", tioclinux),
    ASK("ioctl-tioccons", MEDIUM, NOWHERE, "taking the console's output", tioccons),
    ASK("ioctl-tiocsetd", MEDIUM, NOWHERE, "loading line disciplines: kernel holes in the past", tiocsetd),
    ASK("ioctl-kdsetmode", MEDIUM, NOWHERE, "switching the console's mode", kdsetmode),
    // How a program runs.
    CALL("personality-no-aslr", LOW, "compat", "address randomisation off, for itself; debuggers do it", SYS_personality, ADDR_NO_RANDOMIZE),
    CALL("personality-read-implies-exec", MEDIUM, NOWHERE, "executable memory by default", SYS_personality, READ_IMPLIES_EXEC),
    CALL("personality-mmap-page-zero", MEDIUM, NOWHERE, "page zero mapped: makes null pointers of the kernel useful", SYS_personality, MMAP_PAGE_ZERO),
    {.name = "fileless-exec", .severity = LOW, .wall = REFUSABLE, .refuses = "execveat", .open_in = EVERYWHERE, .ask = fileless,
     .reason = "executing a file in memory gives nothing that a just-in-time compiler does not give; dynamic loaders and runtimes use memfd"},
    {0},
};
