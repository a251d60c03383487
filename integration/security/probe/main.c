// Asks every probe in a process of its own and prints one line for each:
//     NAME SEVERITY WALL VERDICT OPEN-IN REFUSES ERRNO REASON, separated by tabs.
// Usage: probe [NAME=VALUE]... [only=PROBE]: the values are what `probe hold DIRECTORY` says, outside of the sandbox.
//        probe start COMMAND...: starts the sandbox as somebody careless would.
//        probe stay: waits until it is ended, so that other probes can join its sandbox.
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static char **fixtures;

const char *fixture(const char *name) {
    size_t length = strlen(name);
    for (char **word = fixtures; word && *word; word++)
        if (!strncmp(*word, name, length) && (*word)[length] == '=')
            return *word + length + 1;
    return NULL;
}

enum verdict served(long result) {
    if (result >= 0)
        return OPEN;
    switch (errno) {
    case EPERM:
    case EACCES:
    case ENOSYS:
    case EAFNOSUPPORT:
    case EPROTONOSUPPORT:
    case ESOCKTNOSUPPORT:
        return CLOSED;
    default:
        return OPEN;
    }
}

enum verdict ask_call(const struct probe *probe) {
    const long *a = probe->arguments;
    return served(syscall(probe->number, a[0], a[1], a[2], a[3], a[4], a[5]));
}

// A probe may crash, hang or be killed by a filter: that is an answer too, and the next one starts afresh.
static enum verdict answer(const struct probe *probe, int *number) {
    int pipes[2];
    if (pipe(pipes))
        return CLOSED;
    pid_t child = fork();
    if (child == 0) {
        close(pipes[0]);
        setsid();
        struct rlimit none = {0, 0};
        setrlimit(RLIMIT_CORE, &none);
        alarm(10);
        errno = 0;
        int said[2] = {(int)(probe->ask ? probe->ask(probe) : ask_call(probe)), 0};
        said[1] = errno;
        if (write(pipes[1], said, sizeof said) != sizeof said)
            _exit(1);
        _exit(0);
    }
    close(pipes[1]);
    int said[2] = {CLOSED, -1};
    if (child < 0 || read(pipes[0], said, sizeof said) != sizeof said) {
        said[0] = CLOSED;
        said[1] = -1;
    }
    close(pipes[0]);
    if (child > 0)
        waitpid(child, NULL, 0);
    *number = said[1];
    return (enum verdict)said[0];
}

static void report(const struct probe *probe) {
    static const char *severities[] = {"high", "medium", "low", "need"};
    static const char *walls[] = {"filter", "privilege", "landlock", "mask", "image", "network", "init", "groups", "setuid", "host", "ordinary", "absent", "refusable", "kept"};
    const char *only = fixture("only");
    if (only && strcmp(only, probe->name))
        return;
    int number = 0;
    enum verdict verdict = answer(probe, &number);
    const char *word = probe->severity == NEED ? (verdict == OPEN ? "needed-ok" : "needed-lost")
                       : verdict == OPEN       ? "open"
                       : verdict == CLOSED     ? "closed"
                                               : "absent";
    printf("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", probe->name, severities[probe->severity], walls[probe->wall], word,
           probe->open_in ? probe->open_in : "", probe->refuses ? probe->refuses : "",
           number < 0 ? "died" : number ? strerrorname_np(number) : "-", probe->reason);
    fflush(stdout);
}

// `probe euid`: whether a setuid copy of this program has gained something. `probe ran`: that it could be executed.
static int asked_as_helper(const char *word) {
    if (!strcmp(word, "euid"))
        return geteuid() != getuid() ? 42 : 0;
    if (!strcmp(word, "ran"))
        return 43;
    return -1;
}

int main(int count, char **words) {
    if (count == 3 && !strcmp(words[1], "hold"))
        return hold(words[2]);
    if (count > 2 && !strcmp(words[1], "start"))
        return start(words + 2);
    if (count == 2 && !strcmp(words[1], "stay"))
        return pause();
    if (count == 2 && asked_as_helper(words[1]) >= 0)
        return asked_as_helper(words[1]);
    fixtures = words + 1;
    signal(SIGPIPE, SIG_DFL);
    const struct probe *tables[] = {kernel_probes, privilege_probes, path_probes, socket_probes, process_probes, need_probes};
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        for (const struct probe *probe = tables[i]; probe->name; probe++)
            report(probe);
    return 0;
}
