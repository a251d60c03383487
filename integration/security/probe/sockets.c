// Socket families and protocols, and what of the host can be reached through them.
#include "probe.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET(NAME, SEVERITY, WALL, WHERE, FAMILY, TYPE, PROTOCOL, REASON) \
    {.name = NAME, .severity = SEVERITY, .wall = WALL, .open_in = WHERE, .reason = REASON, .number = SYS_socket, .arguments = {FAMILY, TYPE, PROTOCOL}}

static enum verdict unix_connect(const char *name, size_t length) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, name, length);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return fd >= 0 && !connect(fd, (void *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) ? OPEN : CLOSED;
}

static enum verdict abstract_socket(const struct probe *p) {
    const char *name = fixture("abstract");
    char full[100] = {0};
    (void)p;
    if (!name || strlen(name) > 90)
        return ABSENT_HERE;
    strcpy(full + 1, name);
    return unix_connect(full, strlen(name) + 1);
}

static enum verdict socket_file(const struct probe *p) {
    const char *path = fixture("socket");
    (void)p;
    return path && strlen(path) < 100 ? unix_connect(path, strlen(path)) : ABSENT_HERE;
}

static enum verdict loopback_service(const struct probe *p) {
    const char *port = fixture("port");
    (void)p;
    if (!port)
        return ABSENT_HERE;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    return VERDICT(fd >= 0 && !connect(fd, (void *)&address, sizeof address));
}

// Connecting a datagram socket sends nothing, and fails where there is no route.
static enum verdict route_to(const char *number) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
    inet_pton(AF_INET, number, &address.sin_addr);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    return VERDICT(fd >= 0 && !connect(fd, (void *)&address, sizeof address));
}
static enum verdict outside(const struct probe *p) { (void)p; return route_to("192.0.2.1"); }
static enum verdict metadata(const struct probe *p) { (void)p; return route_to("169.254.169.254"); }

static enum verdict interfaces(const struct probe *p) {
    (void)p;
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *one = all; one && one->if_index; one++)
        if (strcmp(one->if_name, "lo"))
            return OPEN;
    return CLOSED;
}

static enum verdict pair_of(const struct probe *p) {
    int ends[2];
    return served(socketpair((int)p->arguments[0], (int)p->arguments[1], 0, ends));
}

#define RAW SOCK_RAW
#define DGRAM SOCK_DGRAM
#define ODD "a protocol with a history of holes, loaded on demand"

const struct probe socket_probes[] = {
    SOCKET("socket-packet", HIGH, PRIVILEGE, 0, AF_PACKET, RAW, 0, "frames of the network: kernel holes in the past"),
    SOCKET("socket-packet-dgram", HIGH, PRIVILEGE, 0, AF_PACKET, DGRAM, 0, "frames of the network"),
    SOCKET("socket-raw", HIGH, PRIVILEGE, 0, AF_INET, RAW, IPPROTO_ICMP, "forged packets"),
    SOCKET("socket-raw-any", HIGH, PRIVILEGE, 0, AF_INET, RAW, IPPROTO_RAW, "forged packets"),
    SOCKET("socket-raw6", HIGH, PRIVILEGE, 0, AF_INET6, RAW, IPPROTO_ICMPV6, "forged packets"),
    SOCKET("socket-vsock", HIGH, FILTER, 0, AF_VSOCK, SOCK_STREAM, 0, "the hypervisor and other machines, past every network namespace"),
    SOCKET("socket-vsock-high-bits", HIGH, FILTER, 0, AF_VSOCK | 1L << 32, SOCK_STREAM, 0, "a family with bits the kernel ignores"),
    SOCKET("socket-alg", HIGH, FILTER, 0, AF_ALG, SOCK_SEQPACKET, 0, "kernel cryptography: holes in the past"),
    SOCKET("socket-xdp", HIGH, PRIVILEGE, 0, AF_XDP, RAW, 0, "frames of the network"),
    SOCKET("socket-key", HIGH, PRIVILEGE, 0, AF_KEY, RAW, 2, "IPsec keys"),
    SOCKET("socket-bluetooth", MEDIUM, FILTER, 0, AF_BLUETOOTH, RAW, 0, ODD),
    SOCKET("socket-can", MEDIUM, FILTER, 0, AF_CAN, RAW, 1, ODD),
    SOCKET("socket-tipc", MEDIUM, FILTER, 0, AF_TIPC, SOCK_SEQPACKET, 0, ODD),
    SOCKET("socket-rds", MEDIUM, FILTER, 0, AF_RDS, SOCK_SEQPACKET, 0, ODD),
    SOCKET("socket-smc", MEDIUM, FILTER, 0, AF_SMC, SOCK_STREAM, 0, ODD),
    SOCKET("socket-qipcrtr", MEDIUM, FILTER, 0, AF_QIPCRTR, DGRAM, 0, ODD),
    SOCKET("socket-kcm", MEDIUM, FILTER, 0, AF_KCM, DGRAM, 0, ODD),
    SOCKET("socket-rxrpc", MEDIUM, FILTER, 0, AF_RXRPC, DGRAM, AF_INET, ODD),
    SOCKET("socket-llc", MEDIUM, FILTER, 0, AF_LLC, DGRAM, 0, ODD),
    SOCKET("socket-pppox", MEDIUM, FILTER, 0, AF_PPPOX, SOCK_STREAM, 0, ODD),
    SOCKET("socket-phonet", LOW, FILTER, 0, AF_PHONET, DGRAM, 0, ODD),
    SOCKET("socket-caif", LOW, FILTER, 0, AF_CAIF, SOCK_STREAM, 0, ODD),
    SOCKET("socket-nfc", LOW, FILTER, 0, AF_NFC, SOCK_SEQPACKET, 0, ODD),
    SOCKET("socket-ieee802154", LOW, FILTER, 0, AF_IEEE802154, DGRAM, 0, ODD),
    SOCKET("socket-x25", LOW, FILTER, 0, AF_X25, SOCK_SEQPACKET, 0, ODD),
    SOCKET("socket-appletalk", LOW, FILTER, 0, AF_APPLETALK, DGRAM, 0, ODD),
    SOCKET("socket-ax25", LOW, FILTER, 0, AF_AX25, DGRAM, 0, ODD),
    SOCKET("socket-mctp", LOW, FILTER, 0, 45, DGRAM, 0, ODD),
    // Internet protocols beside TCP, UDP and ICMP.
    SOCKET("socket-sctp", MEDIUM, FILTER, 0, AF_INET, SOCK_STREAM, IPPROTO_SCTP, ODD),
    SOCKET("socket-dccp", MEDIUM, FILTER, 0, AF_INET, 6, 33, ODD),
    SOCKET("socket-udplite", LOW, FILTER, 0, AF_INET, DGRAM, 136, ODD),
    SOCKET("socket-mptcp", MEDIUM, FILTER, 0, AF_INET, SOCK_STREAM, 262, "TCP that Landlock's rules do not see"),
    SOCKET("socket-l2tp", MEDIUM, FILTER, 0, AF_INET, DGRAM, 115, ODD),
    // Netlink beside routes.
    SOCKET("netlink-diagnosis", LOW, FILTER, "compat", AF_NETLINK, RAW, 4, "sockets of the namespace; ss uses it"),
    SOCKET("netlink-xfrm", MEDIUM, FILTER, 0, AF_NETLINK, RAW, 6, "IPsec: kernel holes in the past"),
    SOCKET("netlink-selinux", LOW, FILTER, 0, AF_NETLINK, RAW, 7, "what protects the host"),
    SOCKET("netlink-audit", MEDIUM, FILTER, 0, AF_NETLINK, RAW, 9, "the audit log (CVE-2014-0181's kind)"),
    SOCKET("netlink-connector", MEDIUM, FILTER, 0, AF_NETLINK, RAW, 11, "every process start of the host"),
    SOCKET("netlink-netfilter", HIGH, FILTER, 0, AF_NETLINK, RAW, 12, "packet filters: kernel holes in the past"),
    SOCKET("netlink-uevent", LOW, FILTER, "compat", AF_NETLINK, RAW, 15, "device events; udev's library listens"),
    SOCKET("netlink-generic", LOW, FILTER, "compat", AF_NETLINK, RAW, 16, "many small interfaces; wireless tools use it"),
    SOCKET("netlink-crypto", MEDIUM, FILTER, 0, AF_NETLINK, RAW, 21, "kernel cryptography"),
    SOCKET("netlink-iscsi", MEDIUM, FILTER, 0, AF_NETLINK, RAW, 8, "the host's disks: kernel holes in the past (CVE-2021-27365)"),
    {.name = "socketpair-tipc", .severity = LOW, .wall = FILTER, .arguments = {AF_TIPC, SOCK_SEQPACKET}, .ask = pair_of, .reason = "pairs load the family too"},
    {.name = "socketpair-inet", .severity = LOW, .wall = FILTER, .arguments = {AF_INET, SOCK_STREAM}, .ask = pair_of, .reason = "the kernel makes both sockets before it refuses the pair"},
    // The host's services.
    {.name = "host-abstract-socket", .severity = HIGH, .wall = HOST, .ask = abstract_socket, .reason = "the desktop's bus, X11, container daemons (CVE-2020-15257)"},
    {.name = "host-socket-file", .severity = HIGH, .wall = HOST, .ask = socket_file, .reason = "daemons that trust the caller's user id"},
    {.name = "host-loopback-service", .severity = HIGH, .wall = NETWORK, .ask = loopback_service, .reason = "services that trust everyone on the machine"},
    {.name = "host-interfaces", .severity = MEDIUM, .wall = NETWORK, .ask = interfaces, .reason = "the host's network interfaces"},
    {.name = "network-outside", .severity = HIGH, .wall = NETWORK, .ask = outside, .reason = "sending data out"},
    {.name = "network-metadata", .severity = HIGH, .wall = NETWORK, .ask = metadata, .reason = "cloud credentials"},
    {0},
};
