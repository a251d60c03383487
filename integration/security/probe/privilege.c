// System calls that need a privilege: refused by the filter and, without it, for want of a capability.
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif

#define CALL(NAME, SEVERITY, WALL, REASON, ...) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .reason = REASON, CALL_ARGUMENTS(__VA_ARGS__)}
#define CALL_ARGUMENTS(NUMBER, ...) .number = NUMBER, .arguments = {__VA_ARGS__}
#define ASK(NAME, SEVERITY, WALL, REASON, FUNCTION) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .reason = REASON, .ask = FUNCTION}

// One of this process' capability sets, as the name of its field: asked of the kernel, as /proc may be out of reach.
static enum verdict capability_set(const struct probe *p) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct own[2] = {{0}};
    if (syscall(SYS_capget, &header, own))
        return OPEN;
    switch (*p->path) {
    case 'e':
        return VERDICT(own[0].effective | own[1].effective);
    case 'p':
        return VERDICT(own[0].permitted | own[1].permitted);
    default:
        return VERDICT(own[0].inheritable | own[1].inheritable);
    }
}
// A set that is read one capability at a time, up to the first that the kernel does not know.
static enum verdict any_capability(int option, unsigned long how) {
    int held;
    for (unsigned long capability = 0; capability < 64; capability++) {
        held = how ? prctl(option, how, capability, 0, 0) : prctl(option, capability, 0, 0, 0);
        if (held)
            return VERDICT(held > 0 || !capability);
    }
    return CLOSED;
}
static enum verdict bounding_set(const struct probe *p) { (void)p; return any_capability(PR_CAPBSET_READ, 0); }
static enum verdict ambient_set(const struct probe *p) { (void)p; return any_capability(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET); }
static enum verdict no_new_privs(const struct probe *p) { (void)p; return VERDICT(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1); }
static enum verdict unfiltered(const struct probe *p) { (void)p; return VERDICT(prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2); }

// An id that is not mapped at all is an invalid argument.
static enum verdict becomes_root(const struct probe *p) { (void)p; return VERDICT(!syscall(SYS_setresuid, 0, 0, 0)); }
static enum verdict becomes_root_group(const struct probe *p) { (void)p; return VERDICT(!syscall(SYS_setresgid, 0, 0, 0)); }

static enum verdict raise_capabilities(const struct probe *p) {
    (void)p;
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{1U << CAP_SYS_ADMIN, 1U << CAP_SYS_ADMIN, 0}, {0, 0, 0}};
    return served(syscall(SYS_capset, &header, data));
}

static enum verdict device(mode_t kind, int major_number, int minor_number) {
    char path[] = "/tmp/palisade-probe-device";
    unlink(path);
    long result = mknod(path, kind | 0600, makedev(major_number, minor_number));
    int error = errno;
    unlink(path);
    errno = error;
    return served(result);
}
static enum verdict mknod_memory(const struct probe *p) { (void)p; return device(S_IFCHR, 1, 1); }
static enum verdict mknod_disk(const struct probe *p) { (void)p; return device(S_IFBLK, 7, 0); }

// The one device that the kernel lets everybody make: the whiteout of overlay file systems.
static enum verdict mknod_whiteout(const struct probe *p) { (void)p; return device(S_IFCHR, 0, 0); }

// The fixture is a setuid copy of this program.
static enum verdict gains_by_setuid(const struct probe *p) {
    const char *path = fixture("setuid");
    (void)p;
    if (!path)
        return ABSENT_HERE;
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, "euid", (char *)NULL);
        _exit(1);
    }
    int result = 0;
    waitpid(child, &result, 0);
    return VERDICT(WIFEXITED(result) && WEXITSTATUS(result) == 42);
}

static enum verdict vhangup_call(const struct probe *p) {
    (void)p;
    // Nobody's terminal: the process that asks has started a session of its own.
    return served(syscall(SYS_vhangup));
}

static enum verdict raise_limit(const struct probe *p) {
    (void)p;
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit))
        return CLOSED;
    limit.rlim_max++;
    return served(setrlimit(RLIMIT_NOFILE, &limit));
}

static enum verdict frames(const struct probe *p) {
    (void)p;
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    if (fd < 0 || pread(fd, &entry, sizeof entry, (off_t)((uintptr_t)&entry / 4096 * 8)) != sizeof entry)
        return CLOSED;
    return VERDICT(entry & ((1ULL << 55) - 1));
}

// A file attribute of a file of one's own.
static enum verdict sets_attribute(const struct probe *p) {
    // linux/capability.h: a version 2 attribute that gives nothing.
    static const uint32_t nothing[5] = {0x02000000};
    char path[] = "/tmp/palisade-probe-attribute";
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
    long result = fd < 0 ? -1 : fsetxattr(fd, p->path, nothing, sizeof nothing, 0);
    int error = errno;
    unlink(path);
    errno = error;
    return fd < 0 ? CLOSED : served(result);
}

static enum verdict real_time(const struct probe *p) {
    struct sched_param first = {.sched_priority = 1};
    (void)p;
    return served(syscall(SYS_sched_setscheduler, 0, SCHED_FIFO, &first));
}

static enum verdict page_zero(const struct probe *p) {
    (void)p;
    return VERDICT(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != MAP_FAILED);
}

const struct probe privilege_probes[] = {
    // What the process has.
    {.name = "capabilities-effective", .severity = HIGH, .wall = PRIVILEGE, .path = "effective", .ask = capability_set, .reason = "rights of root"},
    {.name = "capabilities-permitted", .severity = HIGH, .wall = PRIVILEGE, .path = "permitted", .ask = capability_set, .reason = "rights of root, one call away"},
    {.name = "capabilities-inheritable", .severity = MEDIUM, .wall = PRIVILEGE, .path = "inheritable", .ask = capability_set, .reason = "rights through file capabilities (CVE-2022-24769)"},
    {.name = "capabilities-bounding", .severity = MEDIUM, .wall = PRIVILEGE, .open_in = "no-namespace", .ask = bounding_set,
     .reason = "rights that a program could gain; a caller without namespaces or rights cannot shrink it, and no_new_privs makes it of no use"},
    {.name = "capabilities-ambient", .severity = HIGH, .wall = PRIVILEGE, .ask = ambient_set, .reason = "rights that every program inherits"},
    ASK("no-new-privileges", HIGH, HOST, "setuid programs gain rights", no_new_privs),
    ASK("seccomp-mode", HIGH, FILTER, "no filter at all", unfiltered),
    ASK("capset", HIGH, PRIVILEGE, "giving oneself rights", raise_capabilities),
    ASK("setuid-program", HIGH, SETUID, "a setuid program of the image", gains_by_setuid),
    ASK("setuid-0", HIGH, PRIVILEGE, "becoming root", becomes_root),
    ASK("setgid-0", HIGH, PRIVILEGE, "becoming root's group", becomes_root_group),
    CALL("setgroups", MEDIUM, HOST, "shedding groups that access lists refuse", SYS_setgroups, 0, 0),
    CALL("bounding-drop", LOW, PRIVILEGE, "CAP_SETPCAP", SYS_prctl, PR_CAPBSET_DROP, 0, 0, 0, 0),
    // Mounts and roots.
    CALL("mount", HIGH, PRIVILEGE, "mounting file systems", SYS_mount, TEXT("none"), TEXT("/proc/self/fd"), TEXT("palisade-none"), 0, 0),
    CALL("mount-bind", HIGH, PRIVILEGE, "uncovering masked paths", SYS_mount, TEXT("/palisade-none"), TEXT("/proc/self/fd"), 0, MS_BIND, 0),
    CALL("umount2", HIGH, PRIVILEGE, "uncovering masked paths", SYS_umount2, TEXT("/proc/self/status"), 0),
    CALL("pivot-root", HIGH, PRIVILEGE, "leaving the root", SYS_pivot_root, TEXT("/proc/self"), TEXT("/proc/self")),
    CALL("chroot", HIGH, PRIVILEGE, "leaving the root by a second one", SYS_chroot, TEXT("/")),
    CALL("open-tree-clone", HIGH, PRIVILEGE, "copies of mounts", SYS_open_tree, AT_FDCWD, TEXT("/"), 1),
    CALL("open-tree-attr", HIGH, FILTER, "copies of mounts", SYS_open_tree_attr, AT_FDCWD, TEXT("/"), 0, 0, 1),
    CALL("move-mount", HIGH, PRIVILEGE, "moving mounts", SYS_move_mount, -1, TEXT(""), -1, TEXT(""), 0),
    CALL("fsopen", HIGH, PRIVILEGE, "new file systems", SYS_fsopen, TEXT("tmpfs"), 0),
    CALL("fsmount", HIGH, PRIVILEGE, "new mounts", SYS_fsmount, -1, 0, 0),
    CALL("fspick", HIGH, PRIVILEGE, "changing mounted file systems", SYS_fspick, AT_FDCWD, TEXT("/proc/self/none"), 0),
    CALL("unshare-mount", HIGH, PRIVILEGE, "a mount namespace without a user namespace", SYS_unshare, CLONE_NEWNS),
    CALL("unshare-pid", MEDIUM, PRIVILEGE, "a pid namespace", SYS_unshare, CLONE_NEWPID),
    CALL("unshare-cgroup", MEDIUM, PRIVILEGE, "a cgroup namespace", SYS_unshare, CLONE_NEWCGROUP),
    CALL("unshare-uts", LOW, PRIVILEGE, "names of its own", SYS_unshare, CLONE_NEWUTS),
    // The machine.
    CALL("init-module", HIGH, ABSENT, "code in the kernel", SYS_init_module, 0, 0, 0),
    CALL("finit-module", HIGH, ABSENT, "code in the kernel", SYS_finit_module, -1, TEXT(""), 0),
    CALL("delete-module", HIGH, ABSENT, "removing parts of the kernel", SYS_delete_module, TEXT("palisade_none"), 04000),
    CALL("kexec-load", HIGH, ABSENT, "another kernel", SYS_kexec_load, 0, 0, 0, 0xffff),
    CALL("kexec-file-load", HIGH, ABSENT, "another kernel", SYS_kexec_file_load, -1, -1, 0, 0, 0xffff),
    CALL("reboot", HIGH, PRIVILEGE, "stopping the machine", SYS_reboot, 0, 0, 0, 0),
    CALL("swapon", MEDIUM, HOST, "the host's swap", SYS_swapon, TEXT("/palisade-none"), 0),
    CALL("swapoff", MEDIUM, HOST, "the host's swap", SYS_swapoff, TEXT("/palisade-none")),
    CALL("acct", MEDIUM, HOST, "the host's process accounting", SYS_acct, TEXT("/palisade-none/none")),
    CALL("sethostname", LOW, PRIVILEGE, "names", SYS_sethostname, 0, -1),
    CALL("setdomainname", LOW, PRIVILEGE, "names", SYS_setdomainname, 0, -1),
    CALL("syslog", MEDIUM, HOST, "the kernel's log", SYS_syslog, 3, 0, 0),
    CALL("iopl", HIGH, ABSENT, "input and output ports", SYS_iopl, 3),
    CALL("ioperm", HIGH, ABSENT, "input and output ports", SYS_ioperm, 0x80, 1, 1),
    ASK("vhangup", LOW, HOST, "hanging up terminals", vhangup_call),
    ASK("mknod-memory", HIGH, HOST, "a device node for the machine's memory", mknod_memory),
    ASK("mknod-disk", HIGH, HOST, "a device node for a disk", mknod_disk),
    ASK("mknod-whiteout", LOW, LANDLOCK, "device nodes of any kind", mknod_whiteout),
    CALL("prctl-set-mm", MEDIUM, ABSENT, "false command lines and executables in /proc", SYS_prctl, PR_SET_MM, PR_SET_MM_ARG_START, 1, 0, 0),
    CALL("nice-raise", LOW, HOST, "precedence over the host's processes", SYS_setpriority, PRIO_PROCESS, 0, -5),
    CALL("ioprio-realtime", LOW, HOST, "precedence over the host's disk users", SYS_ioprio_set, 1, 0, 1 << 13),
    ASK("real-time", MEDIUM, HOST, "precedence over everything else on the machine", real_time),
    ASK("map-page-zero", MEDIUM, HOST, "page zero mapped: makes null pointers of the kernel useful", page_zero),
    {.name = "file-capabilities", .severity = MEDIUM, .wall = PRIVILEGE, .path = "security.capability", .ask = sets_attribute, .reason = "programs that gain rights"},
    {.name = "trusted-attributes", .severity = LOW, .wall = HOST, .path = "trusted.palisade", .ask = sets_attribute, .reason = "attributes that overlay file systems and quotas believe"},
    ASK("raise-hard-limit", LOW, ABSENT, "limits of the sandbox", raise_limit),
    ASK("page-frames", MEDIUM, HOST, "physical addresses, for rowhammer and heap layout", frames),
    {0},
};
