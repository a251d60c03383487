// What probes look for outside of a sandbox, and how a sandbox is started by somebody careless.
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define DESCRIPTOR 99

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void listen_at(int family, void *address, socklen_t length) {
    int fd = socket(family, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, address, length) || listen(fd, 64) || getsockname(fd, address, &length))
        fail("listen");
}

static void say_namespace(const char *name) {
    char path[64], link[128] = {0};
    snprintf(path, sizeof path, "/proc/self/ns/%s", name);
    if (readlink(path, link, sizeof link - 1) > 0)
        printf("ns-%s=%s\n", name, link);
}

// `probe hold DIRECTORY`: a process of the host with a file, sockets, memory and a message queue, each said as
// NAME=VALUE and then an empty line, until standard input ends. The mark in its own command line is DIRECTORY.
int hold(const char *directory) {
    char name[64], path[200];
    int pid = getpid();
    key_t key = 0x70610000 + (pid & 0xffff);
    printf("sentinel=%s\npid=%d\ndescriptor=%d\nterminal=1\n", directory, pid, DESCRIPTOR);

    snprintf(path, sizeof path, "%s/secret", directory);
    int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC, 0600);
    if (fd < 0 || write(fd, "secret\n", 7) != 7)
        fail(path);
    printf("secret=%s\n", path);

    struct sockaddr_un file = {.sun_family = AF_UNIX}, abstract = {.sun_family = AF_UNIX};
    snprintf(file.sun_path, sizeof file.sun_path, "%.80s/socket", directory);
    unlink(file.sun_path);
    listen_at(AF_UNIX, &file, sizeof file);
    printf("socket=%s\n", file.sun_path);
    int length = snprintf(abstract.sun_path + 1, 64, "palisade-probe-%d", pid);
    printf("abstract=%s\n", abstract.sun_path + 1);
    listen_at(AF_UNIX, &abstract, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length));
    struct sockaddr_in port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    listen_at(AF_INET, &port, sizeof port);
    printf("port=%d\n", ntohs(port.sin_port));

    int memory = shmget(key, 4096, IPC_CREAT | 0666);
    if (memory < 0)
        fail("shmget");
    printf("shm-key=%d\n", key);
    snprintf(name, sizeof name, "/palisade-probe-%d", pid);
    if (shm_open(name, O_CREAT | O_RDWR, 0666) < 0)
        fail("shm_open");
    if (mq_open(name, O_CREAT | O_RDWR, 0666, NULL) == (mqd_t)-1)
        fail("mq_open");
    printf("shm=%s\nqueue=%s\n", name, name);
    const char *namespaces[] = {"user", "mnt", "pid", "ipc", "uts", "cgroup", "net", "time"};
    for (size_t i = 0; i < sizeof namespaces / sizeof *namespaces; i++)
        say_namespace(namespaces[i]);
    printf("\n");
    fflush(stdout);

    char byte;
    while (read(0, &byte, 1) > 0)
        ;
    shmctl(memory, IPC_RMID, NULL);
    shm_unlink(name);
    mq_unlink(name);
    unlink(path);
    unlink(file.sun_path);
    return 0;
}

// `probe start COMMAND...`: a command that inherits a directory, a controlling terminal, and a secret variable.
int start(char **command) {
    int directory = open("/", O_RDONLY | O_DIRECTORY);
    int controller = posix_openpt(O_RDWR | O_NOCTTY);
    if (dup2(directory, DESCRIPTOR) < 0 || grantpt(controller) || unlockpt(controller))
        fail("descriptors");
    close(directory);
    // A process that leads a group cannot begin a session.
    pid_t child = fork();
    if (child > 0) {
        int status = 0;
        waitpid(child, &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    int terminal = setsid() < 0 ? -1 : open(ptsname(controller), O_RDWR | O_NOCTTY);
    if (terminal < 0 || ioctl(terminal, TIOCSCTTY, 0))
        fail("terminal");
    close(terminal);
    setenv("PALISADE_PROBE", "palisade-probe-secret", 1);
    execvp(*command, command);
    fail(*command);
    return 127;
}
