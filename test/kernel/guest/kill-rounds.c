// SPDX-License-Identifier: MIT
/*
 * kill-rounds - start a backup program, kill it at a random moment, again and again.
 *
 *   kill-rounds --origin DEVICE [--rounds N] [--max-ms N] [--seed N] [--within MS] -- PROGRAM ARGUMENT...
 *
 * One round in four kills it within the time that the first round needed to
 * arm a session, the others up to --max-ms after its session was armed, so that
 * a slow machine meets the same states. After each SIGKILL the process must
 * end, and the origin's session with it, within --within ms; the next round
 * starts a new one. Prints in which state of the session the kills came.
 */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static struct {
	const char *origin;
	__u64 rounds, max_ms, seed, within_ms;
} options = { .rounds = 100, .max_ms = 300, .seed = 1, .within_ms = 10000 };

/* Kills by the state of the session that they met; SNAPBAK_STATE_NEW: none, or not set up. */
static unsigned int met[SNAPBAK_STATE_BROKEN + 1];
static unsigned int ended_before;

static pid_t start(char **command)
{
	posix_spawn_file_actions_t quiet;
	pid_t pid;
	int error;

	posix_spawn_file_actions_init(&quiet);
	posix_spawn_file_actions_addopen(&quiet, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
	error = posix_spawnp(&pid, command[0], &quiet, NULL, command, environ);
	if (error)
		die("%s: %s", command[0], strerror(error));
	posix_spawn_file_actions_destroy(&quiet);
	return pid;
}

static void status_of(int control, __u64 dev, struct snapbak_status *status)
{
	int error = session_status(control, dev, status);

	if (error)
		die("status: %s", strerror(-error));
}

static void kill_and_reap(pid_t pid, __u64 round)
{
	__u64 deadline;
	int how;

	kill(pid, SIGKILL);
	for (deadline = now_ns() + options.within_ms * 1000000; now_ns() < deadline; sleep_us(1000)) {
		if (waitpid(pid, &how, WNOHANG) != pid)
			continue;
		if (WIFEXITED(how))
			ended_before++;
		return;
	}
	die("round %llu: process %d is still there %llu ms after SIGKILL", round, pid, options.within_ms);
}

static void wait_for_end(int control, __u64 dev, __u64 round)
{
	struct snapbak_status status;
	__u64 deadline;

	for (deadline = now_ns() + options.within_ms * 1000000; now_ns() < deadline; sleep_us(1000)) {
		status_of(control, dev, &status);
		if (!status.nr_slots || status.state >= SNAPBAK_STATE_FINISHED)
			return;
	}
	die("round %llu: the session is still in state %u %llu ms after its owner was killed", round, status.state,
	    options.within_ms);
}

/* Until the session is armed, or its process has gone. Returns how long that took in us. */
static __u64 wait_until_armed(pid_t pid, int control, __u64 dev, __u64 round)
{
	struct snapbak_status status;
	__u64 begin = now_ns(), deadline = begin + options.within_ms * 1000000;
	siginfo_t gone = { 0 };

	while (now_ns() < deadline) {
		status_of(control, dev, &status);
		if (status.state >= SNAPBAK_STATE_ARMED)
			return (now_ns() - begin) / 1000;
		if (waitid(P_PID, pid, &gone, WEXITED | WNOHANG | WNOWAIT) || gone.si_pid)
			die("round %llu: the program ended before its session was armed", round);
		sleep_us(200);
	}
	die("round %llu: no session is armed after %llu ms", round, options.within_ms);
}

static void run_round(char **command, int control, __u64 dev, __u64 round, struct random *random)
{
	static __u64 arming_us;
	struct snapbak_status status;
	pid_t pid = start(command);

	if (!round)
		arming_us = wait_until_armed(pid, control, dev, round);
	else if (!random_below(random, 4))
		sleep_us(random_below(random, arming_us + 1));
	else {
		wait_until_armed(pid, control, dev, round);
		sleep_us(random_below(random, options.max_ms * 1000));
	}
	status_of(control, dev, &status);
	met[status.state]++;
	kill_and_reap(pid, round);
	wait_for_end(control, dev, round);
}

int main(int argc, char **argv)
{
	static const struct option names[] = {
		{ "origin", required_argument, NULL, 'o' }, { "rounds", required_argument, NULL, 'r' },
		{ "max-ms", required_argument, NULL, 'm' }, { "seed", required_argument, NULL, 's' },
		{ "within", required_argument, NULL, 'w' }, { 0 },
	};
	struct random random;
	struct stat device;
	__u64 round;
	int control, option;

	while ((option = getopt_long(argc, argv, "+", names, NULL)) != -1) {
		switch (option) {
		case 'o':
			options.origin = optarg;
			break;
		case 'r':
			options.rounds = parse_bytes("--rounds", optarg);
			break;
		case 'm':
			options.max_ms = parse_bytes("--max-ms", optarg);
			break;
		case 's':
			options.seed = parse_bytes("--seed", optarg);
			break;
		case 'w':
			options.within_ms = parse_bytes("--within", optarg);
			break;
		default:
			exit(1);
		}
	}
	if (!options.origin || !options.max_ms || optind == argc)
		die("--origin DEVICE [--rounds N] [--max-ms N] [--seed N] [--within MS] -- PROGRAM ARGUMENT...");
	if (stat(options.origin, &device))
		die("%s: %s", options.origin, strerror(errno));
	control = open(SESSION_CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		die("%s: %s", SESSION_CONTROL, strerror(errno));
	random.state = options.seed;
	for (round = 0; round < options.rounds; round++)
		run_round(argv + optind, control, device.st_rdev, round, &random);
	printf("{\"rounds\": %llu, \"new\": %u, \"ready\": %u, \"armed\": %u, \"finished\": %u, \"broken\": %u, \"endedBefore\": %u}\n",
	       options.rounds, met[SNAPBAK_STATE_NEW], met[SNAPBAK_STATE_READY], met[SNAPBAK_STATE_ARMED],
	       met[SNAPBAK_STATE_FINISHED], met[SNAPBAK_STATE_BROKEN], ended_before);
	return 0;
}
