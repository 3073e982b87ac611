/* The workflow that parachute grew from, as a baseline to measure against: two calls of a runtime's command-line client,
 * then pidfd_open, setns, unshare, fork, mount, exec. Where crictl is not on the path, ctr, containerd's own client, is
 * asked in its place. Usage: seed crictl|ctr SOCKET CONTAINER-ID COMMAND [ARGS...] */
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
    if (argc < 5)
        return 125;
    int ctr = !strcmp(argv[1], "ctr");
    const char *socket = argv[2], *id = argv[3];
    /* Is it there? */
    const char *listed = ctr ? "ctr -a %s -n k8s.io containers info %s >/dev/null"
                             : "crictl -r unix://%1$s -i unix://%1$s ps --id %2$s -q | grep -q .";
    snprintf(command, sizeof command, listed, socket, id);
    check(system(command) != 0, command);
    /* Its pid. */
    if (ctr)
        snprintf(command, sizeof command, "ctr -a %s -n k8s.io tasks ls", socket);
    else
        snprintf(command, sizeof command,
                 "crictl -r unix://%1$s -i unix://%1$s inspect --output go-template --template '%2$s {{.info.pid}}' %2$s",
                 socket, id);
    FILE *told = popen(command, "r");
    check(!told, command);
    while (fgets(line, sizeof line, told))
        if (!strncmp(line, id, strlen(id)))
            pid = atoi(line + strlen(id));
    pclose(told);
    check(pid <= 1, "no pid was told");
    int pidfd = syscall(SYS_pidfd_open, pid, 0);
    check(pidfd < 0, "pidfd_open");
    check(setns(pidfd, CLONE_NEWPID | CLONE_NEWNET), "setns");
    check(unshare(CLONE_NEWNS), "unshare");
    pid_t child = fork();
    check(child < 0, "fork");
    if (!child) {
        check(mount(NULL, "/proc", NULL, MS_REC | MS_PRIVATE, NULL), "mount MS_PRIVATE");
        check(mount("proc", "/proc", "proc", 0, NULL), "mount proc");
        execvp(argv[4], argv + 4);
        _exit(127);
    }
    check(waitpid(child, &status, 0) < 0, "waitpid");
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
