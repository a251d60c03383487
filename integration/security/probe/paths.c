// Files of /proc and /sys, devices, and where files can be written and executed.
#include "probe.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ(NAME, SEVERITY, WALL, WHERE, PATH, REASON) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .open_in = WHERE, .path = PATH, .ask = reads, .reason = REASON}
#define ADDRESSES(NAME, SEVERITY, WALL, PATH, REASON) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .path = PATH, .ask = tells_addresses, .reason = REASON}
#define WRITE(NAME, SEVERITY, WALL, PATH, REASON) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .path = PATH, .ask = opens_for_writing, .reason = REASON}
#define DEVICE(NAME, SEVERITY, WALL, PATH, REASON) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .path = PATH, .ask = opens, .reason = REASON}
#define LIST(NAME, SEVERITY, WALL, WHERE, PATH, REASON) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .open_in = WHERE, .path = PATH, .ask = lists, .reason = REASON}
#define CREATE(NAME, SEVERITY, WALL, PATH, REASON) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .open_in = "compat", .path = PATH, .ask = creates, .reason = REASON}
#define TREE "compat"

static enum verdict missing(void) { return errno == ENOENT || errno == ENXIO || errno == ENODEV ? ABSENT_HERE : CLOSED; }

static ssize_t slurp(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    if (length >= 0)
        text[length] = 0;
    return length;
}

// At least one byte can be read.
static enum verdict reads(const struct probe *p) {
    char text[4096];
    ssize_t length = slurp(p->path, text, sizeof text);
    return length < 0 ? missing() : VERDICT(length > 0);
}

// A line begins with a number other than nought: the kernel shows noughts to those who may not know.
static enum verdict tells_addresses(const struct probe *p) {
    char text[4096];
    ssize_t length = slurp(p->path, text, sizeof text);
    if (length < 0)
        return missing();
    for (char *line = text; line && *line; line = strchr(line, '\n'), line += line != NULL) {
        char *end;
        unsigned long long from = strtoull(line, &end, 16), to = *end == '-' ? strtoull(end + 1, NULL, 16) : 0;
        if (end != line && (from || to))
            return OPEN;
    }
    return CLOSED;
}

// A control group with processes from elsewhere: a sandbox may be shown its own. Of another pid namespace they read as nought.
static enum verdict lists_outsiders(const struct probe *p) {
    const char *host = fixture("pid");
    char line[32];
    FILE *processes = fopen(p->path, "re");
    if (!processes)
        return missing();
    while (fgets(line, sizeof line, processes))
        if (atoi(line) == 0 || (host && atoi(line) == atoi(host)))
            return OPEN;
    return CLOSED;
}

static enum verdict opens_for_writing(const struct probe *p) {
    int fd = open(p->path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    return fd >= 0 ? OPEN : missing();
}

static enum verdict opens(const struct probe *p) {
    int fd = open(p->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    return fd >= 0 ? OPEN : missing();
}

// A directory that has entries.
static enum verdict lists(const struct probe *p) {
    DIR *directory = opendir(p->path);
    if (!directory)
        return missing();
    int entries = 0;
    while (readdir(directory))
        entries++;
    return VERDICT(entries > 2);
}

// A new file in this directory.
static enum verdict creates(const struct probe *p) {
    char path[512];
    snprintf(path, sizeof path, "%s/palisade-probe", p->path);
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return missing();
    unlink(path);
    return OPEN;
}

// Device files of a kind anywhere in /dev: the names differ between machines.
static enum verdict any_device(const struct probe *p) {
    struct stat own;
    DIR *directory = opendir(p->path);
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", p->path, entry->d_name);
        if (stat(path, &own) || !S_ISBLK(own.st_mode))
            continue;
        if (open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) >= 0)
            return OPEN;
    }
    return CLOSED;
}

// An executable copy of this program in the directory `path`.
static enum verdict executes(const struct probe *p) {
    char path[512];
    static char buffer[1 << 16];
    snprintf(path, sizeof path, "%s/palisade-probe-copy", p->path);
    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0700);
    ssize_t length;
    if (from < 0 || to < 0)
        return CLOSED;
    while ((length = read(from, buffer, sizeof buffer)) > 0)
        if (write(to, buffer, (size_t)length) != length)
            return CLOSED;
    close(to);
    pid_t child = fork();
    if (child == 0) {
        execl(path, path, "ran", (char *)NULL);
        _exit(1);
    }
    int status = 0;
    waitpid(child, &status, 0);
    unlink(path);
    return VERDICT(WIFEXITED(status) && WEXITSTATUS(status) == 43);
}

static const char *home(void) {
    const char *own = getenv("HOME");
    return own && *own && strcmp(own, "/") ? own : "/tmp";
}

// In a place for files, or at home.
static enum verdict executes_written(const struct probe *p) {
    struct probe own = *p;
    own.path = "/tmp";
    if (executes(&own) == OPEN)
        return OPEN;
    own.path = home();
    return executes(&own);
}

// A writable file system that honours the setuid bit of a file made there.
static enum verdict honours_setuid(const struct probe *p) {
    char line[4096];
    (void)p;
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    while (mounts && fgets(line, sizeof line, mounts)) {
        char where[1024], options[1024];
        if (sscanf(line, "%*d %*d %*s %*s %1023s %1023s", where, options) == 2 && !strstr(options, "nosuid") && !access(where, W_OK)
            && strncmp(where, "/dev/", 5) && strncmp(where, "/proc/", 6))
            return OPEN;
    }
    return CLOSED;
}

// Where the host keeps the image, in the options of the mount.
static enum verdict host_paths(const struct probe *p) {
    static char text[1 << 16];
    (void)p;
    if (slurp("/proc/self/mountinfo", text, sizeof text) < 0)
        return CLOSED;
    // A path below /proc is one of a process that has ended.
    for (char *at = text; (at = strstr(at, "dir=/")); at++)
        if (strncmp(at, "dir=/proc/", 10))
            return OPEN;
    return CLOSED;
}

static enum verdict reads_fixture(const struct probe *p) {
    const char *path = fixture("secret");
    char text[64], full[1024];
    if (!path)
        return ABSENT_HERE;
    snprintf(full, sizeof full, "%s%s", p->path, path);
    return VERDICT(slurp(full, text, sizeof text) > 0);
}

// A home directory with something in it that is not the sandbox's own.
static enum verdict lists_home(const struct probe *p) {
    DIR *directory = opendir("/home");
    struct dirent *entry;
    while (directory && (entry = readdir(directory))) {
        struct probe one = *p;
        char path[512];
        snprintf(path, sizeof path, "/home/%s", entry->d_name);
        one.path = path;
        if (entry->d_name[0] != '.' && strcmp(path, home()) && lists(&one) == OPEN)
            return OPEN;
    }
    return CLOSED;
}

const struct probe path_probes[] = {
    // /proc: what the kernel tells of itself and of the machine.
    READ("proc-kcore", HIGH, ABSENT, 0, "/proc/kcore", "the machine's memory"),
    READ("proc-kmsg", HIGH, HOST, 0, "/proc/kmsg", "the kernel's log"),
    ADDRESSES("proc-kallsyms", HIGH, HOST, "/proc/kallsyms", "kernel addresses"),
    READ("proc-kallsyms-names", LOW, MASK, "compat", "/proc/kallsyms", "which kernel functions exist"),
    ADDRESSES("proc-iomem", MEDIUM, HOST, "/proc/iomem", "physical addresses"),
    ADDRESSES("proc-ioports", LOW, HOST, "/proc/ioports", "physical addresses"),
    READ("proc-keys", MEDIUM, HOST, 0, "/proc/keys", "keys of the host's users"),
    READ("proc-key-users", LOW, HOST, "compat", "/proc/key-users", "which users of the host have keys"),
    READ("proc-timer-list", MEDIUM, HOST, 0, "/proc/timer_list", "kernel addresses, processes of the host"),
    READ("proc-timer-stats", LOW, ABSENT, 0, "/proc/timer_stats", "processes of the host"),
    READ("proc-sched-debug", MEDIUM, ABSENT, 0, "/proc/sched_debug", "processes of the host"),
    READ("proc-latency-stats", LOW, ABSENT, 0, "/proc/latency_stats", "processes of the host"),
    READ("proc-interrupts", MEDIUM, MASK, 0, "/proc/interrupts", "key strokes and network traffic, by their timing"),
    READ("proc-softirqs", LOW, MASK, "compat", "/proc/softirqs", "the host's network traffic, by its timing"),
    READ("proc-schedstat", LOW, ABSENT, "compat", "/proc/schedstat", "activity of the host"),
    READ("proc-slabinfo", MEDIUM, HOST, 0, "/proc/slabinfo", "kernel heap layout"),
    READ("proc-vmallocinfo", MEDIUM, HOST, 0, "/proc/vmallocinfo", "kernel addresses"),
    READ("proc-pagetypeinfo", LOW, HOST, 0, "/proc/pagetypeinfo", "physical memory layout"),
    READ("proc-buddyinfo", LOW, MASK, "compat", "/proc/buddyinfo", "physical memory layout, for page spraying"),
    READ("proc-zoneinfo", LOW, MASK, "compat", "/proc/zoneinfo", "physical memory layout"),
    READ("proc-kpagecount", MEDIUM, ABSENT, 0, "/proc/kpagecount", "physical memory"),
    READ("proc-kpageflags", MEDIUM, ABSENT, 0, "/proc/kpageflags", "physical memory"),
    READ("proc-modules", LOW, ABSENT, 0, "/proc/modules", "which holes are there"),
    READ("proc-config", LOW, ABSENT, "compat", "/proc/config.gz", "which holes are there"),
    READ("proc-cmdline", LOW, MASK, "compat", "/proc/cmdline", "the host's start options, secrets among them at times"),
    READ("proc-crypto", LOW, MASK, "compat", "/proc/crypto", "loaded modules"),
    READ("proc-devices", LOW, MASK, "compat", "/proc/devices", "the host's drivers"),
    READ("proc-misc", LOW, MASK, "compat", "/proc/misc", "the host's drivers"),
    READ("proc-consoles", LOW, MASK, "compat", "/proc/consoles", "the host's consoles"),
    READ("proc-tty-drivers", LOW, MASK, "compat", "/proc/tty/drivers", "the host's drivers"),
    READ("proc-tty-serial", LOW, HOST, 0, "/proc/tty/driver/serial", "lengths of what is typed on serial lines"),
    READ("proc-diskstats", LOW, MASK, "compat", "/proc/diskstats", "the host's disks and their activity"),
    READ("proc-partitions", LOW, MASK, "compat", "/proc/partitions", "the host's disks"),
    READ("proc-swaps", LOW, MASK, "compat", "/proc/swaps", "the host's swap files"),
    READ("proc-mtrr", LOW, ABSENT, 0, "/proc/mtrr", "physical memory layout"),
    READ("proc-mdstat", LOW, ABSENT, 0, "/proc/mdstat", "the host's disks"),
    READ("proc-driver-rtc", LOW, ABSENT, "compat", "/proc/driver/rtc", "the host's clock"),
    READ("proc-vmstat", LOW, MASK, "compat", "/proc/vmstat", "memory pressure of the host, for timing attacks on the page cache"),
    READ("proc-pressure", LOW, MASK, "compat", "/proc/pressure/memory", "load of the host"),
    READ("proc-locks", LOW, ABSENT, "compat", "/proc/locks", "inode numbers of files that the host has locked"),
    READ("proc-dynamic-debug", LOW, HOST, "compat", "/proc/dynamic_debug/control", "kernel internals"),
    LIST("proc-bus", LOW, MASK, TREE, "/proc/bus", "the host's hardware"),
    LIST("proc-fs", LOW, MASK, TREE, "/proc/fs", "the host's file systems"),
    LIST("proc-irq", LOW, MASK, TREE, "/proc/irq", "the host's interrupts"),
    LIST("proc-acpi", LOW, ABSENT, 0, "/proc/acpi", "the host's hardware"),
    LIST("proc-scsi", LOW, ABSENT, 0, "/proc/scsi", "the host's disks"),
    LIST("proc-asound", LOW, ABSENT, 0, "/proc/asound", "the host's hardware"),
    READ("proc-loadavg", LOW, MASK, "default strict compat task", "/proc/loadavg", "how busy the host is; build tools and test runners read it to size themselves"),
    READ("proc-stat", LOW, MASK, "default strict compat task", "/proc/stat", "processor time of the host; top, node and java read it"),
    // /proc: settings of the host.
    WRITE("write-sysrq-trigger", HIGH, HOST, "/proc/sysrq-trigger", "stopping the machine"),
    WRITE("write-core-pattern", HIGH, HOST, "/proc/sys/kernel/core_pattern", "a program of one's choice, run by the host as root"),
    WRITE("write-modprobe", HIGH, HOST, "/proc/sys/kernel/modprobe", "a program of one's choice, run by the host as root"),
    WRITE("write-hotplug", HIGH, ABSENT, "/proc/sys/kernel/hotplug", "a program of one's choice, run by the host as root"),
    WRITE("write-binfmt-misc", HIGH, ABSENT, "/proc/sys/fs/binfmt_misc/register", "an interpreter of one's choice, run by the host"),
    WRITE("write-randomize-va-space", HIGH, HOST, "/proc/sys/kernel/randomize_va_space", "the host's address randomisation"),
    WRITE("write-drop-caches", LOW, HOST, "/proc/sys/vm/drop_caches", "slowing the host down"),
    WRITE("write-panic", MEDIUM, HOST, "/proc/sys/kernel/panic_on_oops", "stopping the machine"),
    WRITE("write-suid-dumpable", HIGH, HOST, "/proc/sys/fs/suid_dumpable", "memory of privileged programs"),
    WRITE("write-ip-forward", LOW, HOST, "/proc/sys/net/ipv4/ip_forward", "routing"),
    WRITE("write-irq-affinity", LOW, HOST, "/proc/irq/default_smp_affinity", "the host's interrupts"),
    WRITE("write-pid-max", LOW, HOST, "/proc/sys/kernel/pid_max", "limits of the host"),
    WRITE("write-msgmax", LOW, HOST, "/proc/sys/kernel/shmmax", "limits of the namespace, root's to set"),
    // /sys.
    LIST("sys-present", LOW, ABSENT, TREE, "/sys/devices/virtual", "the host's hardware; compat shows it read-only, as Docker does"),
    LIST("sys-firmware", MEDIUM, ABSENT, 0, "/sys/firmware", "firmware tables"),
    LIST("sys-block", LOW, ABSENT, TREE, "/sys/block", "the host's disks; compat shows /sys read-only, as Docker does"),
    LIST("sys-module", LOW, ABSENT, TREE, "/sys/module", "loaded modules; compat shows /sys read-only, as Docker does"),
    READ("sys-dmi", LOW, ABSENT, TREE, "/sys/class/dmi/id/sys_vendor", "the host's maker"),
    READ("sys-vmcoreinfo", LOW, ABSENT, TREE, "/sys/kernel/vmcoreinfo", "where the kernel's dump notes lie; compat shows /sys, as Docker does"),
    LIST("sys-debug", HIGH, ABSENT, 0, "/sys/kernel/debug", "kernel internals"),
    LIST("sys-tracing", HIGH, ABSENT, 0, "/sys/kernel/tracing", "kernel internals"),
    LIST("sys-security", MEDIUM, ABSENT, 0, "/sys/kernel/security", "what protects the host"),
    LIST("sys-bpf", MEDIUM, ABSENT, 0, "/sys/fs/bpf", "the host's programs in the kernel"),
    LIST("sys-powercap", MEDIUM, ABSENT, 0, "/sys/devices/virtual/powercap", "power measured finely enough to read keys (PLATYPUS)"),
    {.name = "sys-cgroup-procs", .severity = LOW, .wall = ABSENT, .path = "/sys/fs/cgroup/memory/cgroup.procs", .ask = lists_outsiders, .reason = "processes of the host"},
    {.name = "sys-cgroup-procs-v2", .severity = LOW, .wall = ABSENT, .path = "/sys/fs/cgroup/cgroup.procs", .ask = lists_outsiders, .reason = "processes of the host"},
    WRITE("write-uevent-helper", HIGH, ABSENT, "/sys/kernel/uevent_helper", "a program of one's choice, run by the host as root"),
    WRITE("write-release-agent", HIGH, ABSENT, "/sys/fs/cgroup/memory/release_agent", "a program of one's choice, run by the host as root (CVE-2022-0492)"),
    WRITE("write-cgroup-procs", HIGH, ABSENT, "/sys/fs/cgroup/memory/cgroup.procs", "leaving the limits"),
    WRITE("write-cgroup-procs-v2", HIGH, ABSENT, "/sys/fs/cgroup/cgroup.procs", "leaving the limits"),
    WRITE("write-memory-limit", HIGH, ABSENT, "/sys/fs/cgroup/memory/memory.limit_in_bytes", "raising the limits"),
    WRITE("write-memory-limit-v2", HIGH, ABSENT, "/sys/fs/cgroup/memory.max", "raising the limits"),
    WRITE("write-power-state", HIGH, ABSENT, "/sys/power/state", "suspending the machine"),
    // Devices.
    DEVICE("dev-mem", HIGH, ABSENT, "/dev/mem", "the machine's memory"),
    DEVICE("dev-kmem", HIGH, ABSENT, "/dev/kmem", "the kernel's memory"),
    DEVICE("dev-port", HIGH, ABSENT, "/dev/port", "input and output ports"),
    DEVICE("dev-kmsg", MEDIUM, HOST, "/dev/kmsg", "the kernel's log"),
    DEVICE("dev-kvm", HIGH, ABSENT, "/dev/kvm", "virtual machines: a large interface"),
    DEVICE("dev-fuse", HIGH, ABSENT, "/dev/fuse", "file systems by the program"),
    DEVICE("dev-net-tun", HIGH, ABSENT, "/dev/net/tun", "network interfaces"),
    DEVICE("dev-vhost-net", HIGH, ABSENT, "/dev/vhost-net", "a large interface"),
    DEVICE("dev-vhost-vsock", HIGH, ABSENT, "/dev/vhost-vsock", "a large interface"),
    DEVICE("dev-loop-control", HIGH, ABSENT, "/dev/loop-control", "disks out of files"),
    {.name = "dev-block", .severity = HIGH, .wall = HOST, .path = "/dev", .ask = any_device, .reason = "the host's disks"},
    DEVICE("dev-console", MEDIUM, ABSENT, "/dev/console", "the host's console"),
    DEVICE("dev-tty0", MEDIUM, ABSENT, "/dev/tty0", "the host's console"),
    DEVICE("dev-autofs", LOW, ABSENT, "/dev/autofs", "mounts"),
    DEVICE("dev-btrfs-control", MEDIUM, ABSENT, "/dev/btrfs-control", "the host's disks"),
    DEVICE("dev-device-mapper", HIGH, ABSENT, "/dev/mapper/control", "the host's disks"),
    DEVICE("dev-hwrng", LOW, ABSENT, "/dev/hwrng", "the host's hardware"),
    DEVICE("dev-latency", LOW, ABSENT, "/dev/cpu_dma_latency", "the host's power saving"),
    DEVICE("dev-msr", HIGH, ABSENT, "/dev/cpu/0/msr", "processor registers"),
    DEVICE("dev-cpuid", LOW, ABSENT, "/dev/cpu/0/cpuid", "processor registers"),
    DEVICE("dev-rtc", LOW, ABSENT, "/dev/rtc0", "the host's clock"),
    DEVICE("dev-hpet", LOW, ABSENT, "/dev/hpet", "a fine clock"),
    DEVICE("dev-snapshot", HIGH, ABSENT, "/dev/snapshot", "the machine's memory"),
    DEVICE("dev-userfaultfd", HIGH, ABSENT, "/dev/userfaultfd", "page faults handled by the program"),
    DEVICE("dev-uinput", HIGH, ABSENT, "/dev/uinput", "typing for the user"),
    DEVICE("dev-input", HIGH, ABSENT, "/dev/input/event0", "reading what is typed"),
    DEVICE("dev-dri", MEDIUM, ABSENT, "/dev/dri/card0", "graphics: a large interface"),
    DEVICE("dev-vfio", HIGH, ABSENT, "/dev/vfio/vfio", "the host's hardware"),
    DEVICE("dev-tpm", MEDIUM, ABSENT, "/dev/tpmrm0", "the host's keys"),
    DEVICE("dev-udmabuf", MEDIUM, ABSENT, "/dev/udmabuf", "memory handed to devices: kernel holes in the past"),
    DEVICE("dev-uhid", HIGH, ABSENT, "/dev/uhid", "typing for the user"),
    DEVICE("dev-framebuffer", MEDIUM, ABSENT, "/dev/fb0", "the host's screen"),
    DEVICE("dev-sound", MEDIUM, ABSENT, "/dev/snd/controlC0", "the host's microphone"),
    DEVICE("dev-camera", MEDIUM, ABSENT, "/dev/video0", "the host's camera"),
    DEVICE("dev-vsock", HIGH, ABSENT, "/dev/vsock", "the hypervisor"),
    // The image and the host's files.
    CREATE("create-in-root", MEDIUM, IMAGE, "/", "changing the image; compat has a writable copy of it"),
    CREATE("create-in-bin", MEDIUM, IMAGE, "/bin", "changing programs; compat has a writable copy of the image"),
    CREATE("create-in-etc", MEDIUM, IMAGE, "/etc", "changing settings; compat has a writable copy of the image"),
    CREATE("create-in-dev", MEDIUM, HOST, "/dev", "files that programs take for devices, in the sandbox's own /dev"),
    CREATE("create-in-usr", MEDIUM, ABSENT, "/usr/bin", "changing programs; compat has a writable copy of the image"),
    {.name = "write-passwd", .severity = MEDIUM, .wall = IMAGE, .open_in = "compat", .path = "/etc/passwd", .ask = opens_for_writing, .reason = "changing who is who; compat has a writable copy of the image"},
    {.name = "setuid-mounts", .severity = MEDIUM, .wall = HOST, .ask = honours_setuid, .reason = "setuid programs of one's own making"},
    {.name = "execute-written", .severity = LOW, .wall = ABSENT, .open_in = "default compat task", .ask = executes_written,
     .reason = "compilers, npm and pip run what they have just made in /tmp and at home"},
    {.name = "execute-in-shm", .severity = MEDIUM, .wall = HOST, .path = "/dev/shm", .ask = executes, .reason = "programs in shared memory"},
    {.name = "host-file", .severity = HIGH, .wall = ORDINARY, .path = "", .ask = reads_fixture, .reason = "the caller's files"},
    {.name = "host-file-through-init", .severity = HIGH, .wall = ABSENT, .path = "/proc/1/root", .ask = reads_fixture, .reason = "the caller's files through another process' root"},
    {.name = "host-file-through-parents", .severity = HIGH, .wall = ORDINARY, .path = "/../../../..", .ask = reads_fixture, .reason = "the caller's files above the root"},
    {.name = "host-homes", .severity = HIGH, .wall = ABSENT, .ask = lists_home, .reason = "home directories of the host"},
    {.name = "host-root-home", .severity = HIGH, .wall = ABSENT, .path = "/root/.ssh", .ask = lists, .reason = "keys of the host's root"},
    READ("host-shadow", HIGH, HOST, 0, "/etc/shadow", "password hashes"),
    LIST("host-var", LOW, ABSENT, 0, "/var/lib/dpkg", "what the host has installed"),
    LIST("host-run", MEDIUM, ABSENT, 0, "/run/lock", "sockets of the host"),
    {.name = "host-paths", .severity = LOW, .wall = ABSENT, .ask = host_paths, .reason = "where the host keeps the image"},
    {0},
};
