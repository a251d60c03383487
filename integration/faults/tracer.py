"""Runs one palisade under ptrace(2), watching or faulting exactly one system call of exactly one process.

strace's inject counts each process by itself but fires in all of them: the third openat fails in the supervisor and in
PID 1 alike, and what PID 1 does about its own is never seen. Hence a tracer that knows which process is which.
x86-64 only.
"""

import ctypes
import os
import signal
import struct
import time

# HELPER is a short-lived process that holds the user namespace of an id-mapped mount. INSIDE is what the command became.
SUPERVISOR, INIT, HELPER, COMMAND, INSIDE = "supervisor", "init", "helper", "command", "inside"

CONT, SYSCALL, POKEUSER, SETOPTIONS, GETEVENTMSG = 7, 24, 6, 0x4200, 0x4201
SEIZE, LISTEN, GET_SYSCALL_INFO = 0x4206, 0x4208, 0x420E
# TRACESYSGOOD, TRACEFORK, TRACEVFORK, TRACECLONE, TRACEEXEC, EXITKILL (ptrace(2)).
OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x100000
EVENT_FORK, EVENT_VFORK, EVENT_CLONE, EVENT_EXEC, EVENT_STOP = 1, 2, 3, 4, 128
# Offsets in struct user (sys/user.h).
RAX, RDI, ORIG_RAX = 80, 112, 120
# brk(2) fails by returning the break as it was, which is what it does when asked for 0.
BRK = 12
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


# The kernel's numbers (asm/unistd_64.h).
MKDIR, MKDIRAT = 83, 258


class Gone(Exception):
    """The traced process died between two looks."""


class Late(Exception):
    """The time is up."""


def ptrace(request, pid, address=0, data=0):
    if libc.ptrace(request, pid, address, data) == -1:
        errno = ctypes.get_errno()
        if errno == 3:
            raise Gone
        raise OSError(errno, f"ptrace {request:#x}: {os.strerror(errno)}")


class Run:
    """What came of a run: `calls` as (role, number, occurrence, failed), the wait status, whether time ran out, which
    processes outlived the supervisor, whether the fault was reached, and which cgroups the supervisor went to make."""

    def __init__(self):
        self.calls = []
        self.status = None
        self.hung = False
        self.survivors = 0
        self.reached = False
        self.command_ran = False
        self.cgroups = []


def run(argv, environment, streams, uid, fault=None, limit=20.0):
    """Runs `argv` as `uid`. `fault` is (role, number, occurrence, action): an errno's number, or "kill"."""
    ready, go = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if uid != os.geteuid():
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            os.read(ready, 1)
            for number, file in enumerate(streams):
                os.dup2(file, number)
            os.closerange(3, 256)
            os.execve(argv[0], argv, environment)
        finally:
            os._exit(111)
    os.close(ready)
    ptrace(SEIZE, child, 0, OPTIONS)
    os.write(go, b"x")
    os.close(go)
    tracer = Tracer(child, fault)
    late = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, limit)
    try:
        tracer.loop()
    except Late:
        tracer.end(hung=True)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, late)
    return tracer.result


def on_alarm(_number, _frame):
    raise Late


def text_at(pid, address):
    """A string in a traced process, of at most 4095 bytes."""
    try:
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except OSError:
        return ""
    try:
        return os.pread(memory, 4096, address).split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(memory)


class Tracer:
    def __init__(self, child, fault):
        self.child = child
        self.fault = fault
        self.roles = {child: SUPERVISOR}
        self.counts = {}
        self.pending = {}
        self.result = Run()
        self.early = {}
        self.has_init = False
        self.ended_at = None

    def loop(self):
        while self.roles:
            try:
                pid, status = os.waitpid(-1, WALL)
            except ChildProcessError:
                break
            try:
                self.handle(pid, status)
            except Gone:
                pass
            if self.ended_at is None and self.result.status is not None:
                # What is left in the sandbox has this long to die.
                signal.setitimer(signal.ITIMER_REAL, 5.0)
                self.ended_at = time.monotonic()

    def end(self, hung):
        if self.result.status is None:
            self.result.hung = hung
        else:
            self.result.survivors = len(self.roles)
        # Only what this tracer has started: its own tracees.
        for pid in list(self.roles):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        deadline = time.monotonic() + 5
        while self.roles and time.monotonic() < deadline:
            try:
                pid, status = os.waitpid(-1, WALL | os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                time.sleep(0.01)
            elif os.WIFEXITED(status) or os.WIFSIGNALED(status):
                self.roles.pop(pid, None)
                if pid == self.child:
                    self.result.status = status
            else:
                try:
                    ptrace(CONT, pid)
                except Gone:
                    pass

    def handle(self, pid, status):
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            self.roles.pop(pid, None)
            self.early.pop(pid, None)
            if pid == self.child:
                self.result.status = status
            return
        if pid not in self.roles:
            # Its parent's stop, which says whose child it is, has not been seen yet.
            self.early[pid] = status
            return
        number, event = os.WSTOPSIG(status), status >> 16
        if event == EVENT_STOP:
            stopped = number in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
            if stopped:
                ptrace(LISTEN, pid)
            else:
                self.go_on(pid)
        elif event:
            if event in (EVENT_FORK, EVENT_VFORK, EVENT_CLONE):
                self.born(pid)
            if event == EVENT_EXEC and self.roles[pid] == COMMAND:
                # Not palisade's code any more.
                self.roles[pid] = INSIDE
                self.result.command_ran = True
            self.go_on(pid)
        elif number == signal.SIGTRAP | 0x80:
            self.system_call(pid)
            self.go_on(pid)
        else:
            self.go_on(pid, number)

    def born(self, parent):
        message = ctypes.c_ulong()
        ptrace(GETEVENTMSG, parent, 0, ctypes.addressof(message))
        role = self.roles[parent]
        if role == SUPERVISOR:
            role = HELPER if self.has_init else INIT
            self.has_init = True
        else:
            role = COMMAND if role == INIT else INSIDE
        child = message.value
        self.roles[child] = role
        if child in self.early:
            self.handle(child, self.early.pop(child))

    def go_on(self, pid, number=0):
        ptrace(CONT if self.roles[pid] == INSIDE else SYSCALL, pid, 0, number)

    def system_call(self, pid):
        role = self.roles[pid]
        if role == INSIDE:
            return
        info = ctypes.create_string_buffer(96)
        ptrace(GET_SYSCALL_INFO, pid, len(info), ctypes.addressof(info))
        entering = info.raw[0] == 1
        if entering:
            number = struct.unpack_from("<Q", info.raw, 24)[0]
            key = (role, number)
            self.counts[key] = self.counts.get(key, 0) + 1
            call = (role, number, self.counts[key])
            self.result.calls.append(call + (info.raw[32:80],))
            if role == SUPERVISOR and number in (MKDIR, MKDIRAT):
                address = struct.unpack_from("<Q", info.raw, 32 if number == MKDIR else 40)[0]
                path = text_at(pid, address)
                if path.startswith("/sys/fs/cgroup/"):
                    self.result.cgroups.append(path)
            if self.fault and self.fault[:3] == call:
                self.result.reached = True
                if self.fault[3] == "kill":
                    os.kill(pid, signal.SIGKILL)
                    return
                if number == BRK:
                    ptrace(POKEUSER, pid, RDI, 0)
                    self.pending[pid] = RDI, struct.unpack_from("<Q", info.raw, 32)[0]
                    return
                ptrace(POKEUSER, pid, ORIG_RAX, 0xFFFFFFFFFFFFFFFF)
                value = 0 if self.fault[3] == "skip" else -self.fault[3]
                self.pending[pid] = RAX, value & 0xFFFFFFFFFFFFFFFF
        elif pid in self.pending:
            register, value = self.pending.pop(pid)
            ptrace(POKEUSER, pid, register, value)
