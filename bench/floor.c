/* A joined run with everything left out that its way into the container can do without, however good agent and launcher are: no
 * configuration, look-up, check or deadline, and a queue of one. What is left is what a bare spawn has not: messages between
 * processes, a copy of a mount namespace, the container's pid and network namespaces, a fresh procfs and sysfs, a process between
 * spawner and command, and the answers' way back. It is not safe, and no way to do it.
 *
 * Usage: floor launcher|direct UNIFIED-CGROUP [TASKS...]. Standard input is the agent's end of a SOCK_SEQPACKET pair; it leads to a
 * launcher that only passes on what it gets or, with `direct`, to the spawner itself, as if a launcher cost nothing. A message has three
 * descriptors: the container's pidfd, and where the command prints. Its first byte is of the flags below, and then come the command's
 * words, each ended by NUL. The answer is the wait status, when all of it has been reaped.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    /* Nothing else is run at this moment: it begins on one processor. */
    ALONE = 1,
    /* With what keeps a joined command from the container, and the host from it: cgroups that limit it, and one to kill it by; a look
     * at each neighbour's capabilities; the cover of the stub's folder in /proc; resource limits compared afterwards. */
    GUARDED = 2
};
enum { FDS = 3, WORDS = 16, STACK = 64 * 1024 };

static int status, null, fds[FDS], flags;
/* The unified cgroup's folder, and the files by which cgroup v1's are joined. */
static int unified, limiting[8], limits;
static cpu_set_t processors;
static char *words[WORDS + 1], message[1024];
static char *environment[] = {"PATH=/usr/sbin:/usr/bin", "LC_ALL=C", NULL};
static char stubs[STACK] __attribute__((aligned(16)));

static int check(int result, const char *what) {
    if (result < 0) {
        perror(what);
        _exit(125);
    }
    return result;
}

/* What is sent with it, and what is received, is in `fds`. */
static void give(int socket, void *bytes, size_t length, int count) {
    _Alignas(struct cmsghdr) char beside[CMSG_SPACE(sizeof fds)] = {0};
    struct iovec part = {bytes, length};
    struct msghdr whole = {.msg_iov = &part, .msg_iovlen = 1};
    if (count) {
        whole.msg_control = beside;
        whole.msg_controllen = sizeof beside;
        struct cmsghdr *head = CMSG_FIRSTHDR(&whole);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof fds);
        memcpy(CMSG_DATA(head), fds, sizeof fds);
    }
    check(sendmsg(socket, &whole, MSG_NOSIGNAL), "sendmsg");
}

static size_t take(int socket, void *bytes, size_t length) {
    _Alignas(struct cmsghdr) char beside[CMSG_SPACE(sizeof fds)];
    struct iovec part = {bytes, length};
    struct msghdr whole = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = beside, .msg_controllen = sizeof beside};
    int got = check(recvmsg(socket, &whole, MSG_CMSG_CLOEXEC), "recvmsg");
    struct cmsghdr *head = CMSG_FIRSTHDR(&whole);
    if (!got)
        _exit(0);
    if (head && head->cmsg_type == SCM_RIGHTS && head->cmsg_len == CMSG_LEN(sizeof fds))
        memcpy(fds, CMSG_DATA(head), sizeof fds);
    return got;
}

static void close_all(void) {
    for (int n = 0; n < FDS; n++)
        close(fds[n]);
}

/* In the memory, and on the stack, of whoever makes it, who waits until it has its own. */
static inline __attribute__((always_inline)) long begin(struct clone_args *how) {
    long pid;
#if defined(__x86_64__)
    __asm__ volatile("syscall" : "=a"(pid) : "a"(SYS_clone3), "D"(how), "S"(sizeof *how) : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long number __asm__("x8") = SYS_clone3, first __asm__("x0") = (long)how, second __asm__("x1") = sizeof *how;
    __asm__ volatile("svc #0" : "+r"(first) : "r"(number), "r"(second) : "memory");
    pid = first;
#endif
    return pid;
}

static void look_at_neighbours(void) {
    char all[4096] __attribute__((aligned(8))), path[32], text[2048];
    struct stat about;
    int own = getpid(), folder = check(open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC), "/proc");
    for (int length; (length = check(getdents64(folder, all, sizeof all), "/proc"));) {
        struct dirent64 *one;
        for (int at = 0; at < length; at += one->d_reclen) {
            one = (struct dirent64 *)(all + at);
            int pid = atoi(one->d_name);
            if (!pid || pid == own)
                continue;
            snprintf(path, sizeof path, "/proc/%d/status", pid);
            /* One that has just gone, as the last run's stub may have, is none. */
            int file = open(path, O_RDONLY | O_CLOEXEC);
            if (file < 0)
                continue;
            int got = read(file, text, sizeof text);
            close(file);
            snprintf(path, sizeof path, "/proc/%d/ns/user", pid);
            if (got >= 0)
                stat(path, &about);
        }
    }
    close(folder);
}

static void look_at_limits(int pid) {
    struct rlimit limit;
    for (int which = 0; which < RLIMIT_NLIMITS; which++)
        check(prlimit(pid, which, NULL, &limit), "prlimit");
}

static void anywhere(void) { check(sched_setaffinity(0, sizeof processors, &processors), "sched_setaffinity"); }

static _Noreturn __attribute__((noinline)) void command(void) {
    for (int n = 0; flags & GUARDED && n < limits; n++)
        check(write(limiting[n], "0", 1), "a cgroup");
    setsid();
    for (int stream = 0; stream < 3; stream++)
        check(dup2(stream ? fds[stream] : null, stream), "dup2");
    if (flags & ALONE)
        anywhere();
    execve(words[0], words, environment);
    _exit(127);
}

static int stub(void *unused) {
    (void)unused;
    int cover = -1;
    char own[32];
    siginfo_t ended;
    signal(SIGCHLD, SIG_DFL);
    check(setns(fds[0], CLONE_NEWNET), "setns network");
    if (flags & GUARDED) {
        check(prctl(PR_SET_CHILD_SUBREAPER, 1), "subreaper");
        cover = check(syscall(SYS_open_tree, -1, "/proc", OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC), "open_tree");
    }
    check(mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL), "mount proc");
    check(mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_RDONLY, NULL), "mount sysfs");
    if (flags & GUARDED) {
        look_at_neighbours();
        snprintf(own, sizeof own, "/proc/%d", getpid());
        check(syscall(SYS_move_mount, cover, "", -1, own, MOVE_MOUNT_F_EMPTY_PATH), "move_mount");
    }
    struct clone_args how = {.flags = CLONE_VM | CLONE_VFORK, .exit_signal = SIGCHLD};
    if (flags & GUARDED) {
        how.flags |= CLONE_INTO_CGROUP;
        how.cgroup = unified;
    }
    long pid = begin(&how);
    if (!pid)
        command();
    check(pid, "clone of the command");
    if (flags & GUARDED) {
        check(waitid(P_PID, pid, &ended, WEXITED | WNOWAIT), "waitid for the command");
        look_at_limits(pid);
    }
    check(waitpid(pid, &status, 0), "waitpid for the command");
    _exit(0);
}

/* The mounts of which each run has a copy: those that programs, libraries and devices are on, whatever else the host has. */
static int template(void) {
    static const char *const kept[] = {"/", "/usr", "/bin", "/lib", "/lib64", "/dev"};
    char *line = NULL, *points[8192];
    size_t room = 0;
    int count = 0;
    check(unshare(CLONE_NEWNS), "unshare");
    check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), "mount MS_PRIVATE");
    int namespace = check(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), "template");
    FILE *table = fopen("/proc/self/mountinfo", "re");
    check(table ? 0 : -1, "mountinfo");
    while (count < 8192 && getline(&line, &room, table) > 0)
        if (sscanf(line, "%*s %*s %*s %*s %ms", &points[count]) == 1)
            count++;
    fclose(table);
    while (count--) {
        int keep = 0;
        for (size_t n = 0; n < sizeof kept / sizeof *kept; n++)
            keep |= !strcmp(points[count], kept[n]);
        if (!keep)
            umount2(points[count], MNT_DETACH);
        free(points[count]);
    }
    return namespace;
}

static _Noreturn void spawner(int launcher) {
    int own_pid = check(open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC), "pid namespace");
    int own_mnt = check(open("/proc/self/ns/mnt", O_RDONLY | O_CLOEXEC), "mount namespace");
    int copied = template();
    check(setns(own_mnt, CLONE_NEWNS), "setns mounts");
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        size_t length = take(launcher, message, sizeof message - 1), count = 0;
        flags = message[0] - '0';
        for (char *word = message + 1; word < message + length && count < WORDS; word += strlen(word) + 1)
            words[count++] = word;
        words[count] = NULL;
        check(setns(copied, CLONE_NEWNS), "setns template");
        check(unshare(CLONE_NEWNS), "unshare");
        if (flags & ALONE) {
            cpu_set_t here;
            CPU_ZERO(&here);
            CPU_SET(sched_getcpu(), &here);
            check(sched_setaffinity(0, sizeof here, &here), "sched_setaffinity");
        }
        check(setns(fds[0], CLONE_NEWPID), "setns pid");
        status = -1;
        int pid = check(clone(stub, stubs + STACK, CLONE_VM | SIGCHLD, NULL), "clone of the stub");
        /* It reaps itself, as nobody has asked to hear of it: what the kernel takes down with it is not waited for. */
        waitpid(pid, NULL, 0);
        check(setns(own_pid, CLONE_NEWPID), "setns own pid");
        close_all();
        give(launcher, &status, sizeof status, 0);
        if (flags & ALONE)
            anywhere();
        check(setns(own_mnt, CLONE_NEWNS), "setns own mounts");
    }
}

int main(int argc, char **argv) {
    int pair[2], agent = 0;
    if (argc < 3 || argc > 3 + (int)(sizeof limiting / sizeof *limiting))
        return 125;
    unified = check(open(argv[2], O_RDONLY | O_DIRECTORY | O_CLOEXEC), argv[2]);
    for (int n = 3; n < argc; n++)
        limiting[limits++] = check(open(argv[n], O_WRONLY | O_CLOEXEC), argv[n]);
    check(sched_getaffinity(0, sizeof processors, &processors), "sched_getaffinity");
    null = check(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
    if (!strcmp(argv[1], "direct"))
        spawner(agent);
    check(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    if (!check(fork(), "fork")) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(pair[0]);
        check(dup2(null, agent), "dup2");
        spawner(pair[1]);
    }
    close(pair[1]);
    for (;;) {
        size_t length = take(agent, message, sizeof message);
        give(pair[0], message, length, FDS);
        close_all();
        take(pair[0], &status, sizeof status);
        give(agent, &status, sizeof status, 0);
    }
}
