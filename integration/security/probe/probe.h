// One question about a sandbox, asked from inside it.
#ifndef PROBE_H
#define PROBE_H

#include <stdbool.h>

enum severity { HIGH, MEDIUM, LOW, NEED };

// What stands in the way, so that taking it away must show the probe open.
enum wall {
    FILTER,     // the seccomp program
    PRIVILEGE,  // the seccomp program and the want of capabilities: open to a sandboxed root with all of them and no filter
    LANDLOCK,   // Landlock
    MASK,       // masked and read-only paths
    IMAGE,      // the read-only image
    NETWORK,    // the network namespace
    INIT,       // that the first process is not the command's equal: open where a plain shell is process 1
    GROUPS,     // that the caller's supplementary groups are dropped: open to a caller that has some
    SETUID,     // no_new_privs and nosuid mounts: open to an ordinary user where the program is root's
    HOST,       // the sandbox as a whole: open to root outside of it
    ORDINARY,   // the sandbox as a whole: open to an ordinary user outside of it
    ABSENT,     // the sandbox as a whole; what it would give away is absent from many machines
    REFUSABLE,  // of what is needed: lost when the policy denies `refuses`
    KEPT,       // of what is needed: no rule of a policy alone takes it away
};

// Verdicts. `ABSENT_HERE` counts as closed.
enum verdict { CLOSED, OPEN, ABSENT_HERE };

struct probe {
    const char *name;
    enum severity severity;
    enum wall wall;
    const char *open_in;  // policies that leave it open (of what is needed: that lose it), or the tier no-namespace; space separated
    const char *reason;   // what it would give away, or who needs it
    const char *refuses;  // REFUSABLE: the system call to deny
    // Either a question of its own...
    enum verdict (*ask)(const struct probe *);
    const char *path;
    // ...or a system call with harmless arguments: it is open when the kernel's own code was reached.
    long number;
    long arguments[6];
};

extern const struct probe kernel_probes[], privilege_probes[], path_probes[], socket_probes[], process_probes[], need_probes[];

// A fixture's value from the command line (NAME=VALUE), or null.
const char *fixture(const char *name);

// Other ways to call this program: fixtures.c.
int hold(const char *directory);
int start(char **command);

// The verdict on the result of a call: refused or not known is closed, everything else was served.
enum verdict served(long result);

enum verdict ask_call(const struct probe *);

// A string as an argument of a system call.
#define TEXT(STRING) ((long)(STRING))

#define VERDICT(condition) ((condition) ? OPEN : CLOSED)

#endif
