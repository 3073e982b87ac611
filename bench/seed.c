/* The workflow that parachute grew from, as a baseline to measure against: two calls of a runtime's command-line client,
 * then pidfd_open, setns, unshare, fork, mount, exec. crictl is not packaged by Debian; ctr, containerd's own client, is
 * asked in its place. Usage: seed SOCKET CONTAINER-ID COMMAND [ARGS...] */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int failed, const char *what) {
    if (failed) {
        perror(what);
        exit(125);
    }
}

int main(int argc, char **argv) {
    char command[1024], line[1024];
    int pid = 0, status;
    if (argc < 4)
        return 125;
    /* Is it there? As `crictl ps --name` tells. */
    snprintf(command, sizeof command, "ctr -a %s -n k8s.io containers info %s >/dev/null", argv[1], argv[2]);
    check(system(command) != 0, "ctr containers info");
    /* Its pid, as `crictl inspect` tells. */
    snprintf(command, sizeof command, "ctr -a %s -n k8s.io tasks ls", argv[1]);
    FILE *tasks = popen(command, "r");
    check(!tasks, "ctr tasks ls");
    while (fgets(line, sizeof line, tasks))
        if (!strncmp(line, argv[2], strlen(argv[2])))
            pid = atoi(line + strlen(argv[2]));
    pclose(tasks);
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    check(pidfd < 0, "pidfd_open");
    check(setns(pidfd, CLONE_NEWPID | CLONE_NEWNET), "setns");
    check(unshare(CLONE_NEWNS), "unshare");
    pid_t child = fork();
    check(child < 0, "fork");
    if (!child) {
        check(mount(NULL, "/proc", NULL, MS_REC | MS_PRIVATE, NULL), "mount MS_PRIVATE");
        check(mount("proc", "/proc", "proc", 0, NULL), "mount proc");
        execvp(argv[3], argv + 3);
        _exit(127);
    }
    check(waitpid(child, &status, 0) < 0, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
