// SPDX-License-Identifier: MIT
/*
 * chaos - sessions of the kernel driver that everything befalls, while writers write.
 *
 *   chaos --disk DEVICE --target-disk DEVICE --small FILE [--seed N] [--first N] [--sessions N] [--slack MS]
 *
 * Each session is drawn from the seed and its number (chaos-plan.h). After each:
 *
 *   - the origin holds every acknowledged write, and takes writes;
 *   - a backup that says that it is complete is one, and without a fault it is;
 *   - how it ended is explained by what befell it (chaos-check.h);
 *   - no request of a writer took longer than the session's policy allows;
 *   - the driver has no session any more.
 *
 * Prints a JSON line each, and one at the end. FILE is on a file system that is
 * too small for an image. The disks' content is destroyed.
 */
#include "chaos-check.h"
#include "writers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTORS (8 * 2048 - 3)
#define LONGEST ((__u64)(1 << 20) + (1 << 19)) /* bytes of a writer's request */
#define ENOUGH 10 /* sessions, to expect some of each kind */
#define MS 1000000ULL

static struct {
	const char *disk, *target_disk, *small;
	__u64 seed, first, sessions, slack_ms;
} options = { .seed = 1, .sessions = 20, .slack_ms = 5000 };

static struct stack stack;
static struct contents contents;
static struct consumer_page *page;
static int control;
static __u64 dev; /* of the origin */

static const struct plan *current; /* NULL between sessions */

static struct {
	__u64 outcomes[OUTCOMES], reasons[SNAPBAK_REASON_STALLED + 1], struck[FAULT_KINDS];
	__u64 requests, failed, captured, held, invalid, held_max_ns, slowest_ns;
} sum;

/* At exit: how to see it again. */
static void tell_where(void)
{
	if (!current)
		return;
	fflush(stdout);
	fprintf(stderr, "that was session %llu; again: npm run chaos:kernel -- --seed %llu --first %llu --sessions 1\n",
		current->number, current->seed, current->number);
}

static void hangs(int signal)
{
	(void)signal;
	die("the session comes to no end");
}

static void wait_until_idle(void)
{
	__u64 deadline = now_ns() + (10000 + options.slack_ms) * MS;
	struct snapbak_status status;
	int error;

	do {
		error = session_status(control, dev, &status);
		if (error)
			die("STATUS: %s", strerror(-error));
		if (!status.nr_slots && status.state == SNAPBAK_STATE_NEW)
			return;
		sleep_us(1000);
	} while (now_ns() < deadline);
	die("the session's process has gone, and it is in state %u", status.state);
}

static __u64 requests_done(const struct request_counts *counts)
{
	enum request_kind kind;
	__u64 done = 0;

	for (kind = 0; kind < REQUEST_KINDS; kind++)
		done += counts->done[kind];
	return done;
}

/* Of the longest request: what the driver may keep it, what we did, and what a slow machine adds. */
static __u64 bound_ns(const struct victim *victim)
{
	__u64 arming = victim->page->armed ? victim->page->instant.returned - victim->page->instant.called : 0;

	return victim->patience_ns + victim->outage_ns + arming + victim->slack_ns;
}

static void count(const struct victim *victim, const struct request_counts *counts, const struct record *record)
{
	enum fault_kind kind;

	sum.outcomes[page->outcome]++;
	if (page->outcome == OUTCOME_BROKEN)
		sum.reasons[page->reason]++;
	for (kind = 0; kind < FAULT_KINDS; kind++)
		sum.struck[kind] += victim->struck[kind];
	sum.requests += requests_done(counts);
	sum.failed += record->failed.count;
	if (counts->slowest_ns > sum.slowest_ns)
		sum.slowest_ns = counts->slowest_ns;
	if (victim->struck[FAULT_RUBBISH])
		return; /* the counters may be rubbish too */
	sum.captured += page->counters[SNAPBAK_C_CAPTURED];
	sum.held += page->counters[SNAPBAK_C_HELD];
	sum.invalid += page->counts.invalid + page->counts.unreadable;
	if (page->counters[SNAPBAK_C_HELD_MAX_NS] > sum.held_max_ns)
		sum.held_max_ns = page->counters[SNAPBAK_C_HELD_MAX_NS];
}

static void report(const struct victim *victim, const struct request_counts *counts, const struct record *record,
		   __u64 took_ns)
{
	enum fault_kind kind;
	int any = 0;

	printf("{");
	plan_print(victim->plan);
	printf(", \"outcome\": \"%s\", \"reason\": %u, \"struck\": [", outcome_names[page->outcome], page->reason);
	for (kind = 0; kind < FAULT_KINDS; kind++)
		if (victim->struck[kind])
			printf("%s\"%s\"", any++ ? ", " : "", fault_names[kind]);
	printf("], \"copied\": %llu, \"listed\": %llu, \"captured\": %llu, \"held\": %llu, \"heldMaxMs\": %llu, "
	       "\"invalid\": %llu, \"requests\": %llu, \"failedRequests\": %zu, \"slowestMs\": %llu, \"boundMs\": %llu, "
	       "\"tookMs\": %llu}\n",
	       page->done, page->listed, page->counters[SNAPBAK_C_CAPTURED], page->counters[SNAPBAK_C_HELD],
	       page->counters[SNAPBAK_C_HELD_MAX_NS] / MS, page->counts.invalid + page->counts.unreadable,
	       requests_done(counts), record->failed.count, counts->slowest_ns / MS, bound_ns(victim) / MS, took_ns / MS);
	fflush(stdout);
}

static void judge(const struct victim *victim, const char *target, const struct request_counts *counts,
		  struct record *record)
{
	__u64 wrong;

	check_outcome(victim);
	if (counts->slowest_ns > bound_ns(victim))
		die("a request took %llu ms, the bound is %llu", counts->slowest_ns / MS, bound_ns(victim) / MS);
	wrong = check_origin(&contents, stack.origin, record);
	if (wrong)
		die("%llu sectors of the origin are wrong", wrong);
	if (page->outcome != OUTCOME_COMPLETE)
		return;
	wrong = check_image(&contents, target, victim->plan->geometry.block_shift, page, record);
	if (wrong)
		die("%llu sectors of a complete backup are wrong", wrong);
}

static void run_session(__u64 number)
{
	struct plan plan = plan_draw(options.seed, number, SECTORS);
	const char *target = plan_has(&plan, FAULT_TARGET_FULL) ? options.small : stack.target;
	__u32 *initial = allocate(SECTORS * sizeof(*initial));
	struct record record = { .initial = initial };
	struct request_counts counts = { 0 };
	struct writers *writers = allocate(sizeof(*writers));
	struct writers_options writing = {
		.threads = plan.threads,
		.seed = mix64(plan.copy.seed),
		.block_size = 1ULL << plan.geometry.block_shift,
		.kinds = (1u << REQUEST_KINDS) - 1,
		.pause_us = 8000,
		.may_fail = plan_fails_origin(&plan),
	};
	struct victim victim = {
		.plan = &plan,
		.stack = &stack,
		.page = page,
		.control = control,
		.dev = dev,
		.patience_ns = plan_patience_ns(&plan, LONGEST),
		.slack_ns = options.slack_ms * MS,
	};
	__u64 begin = now_ns();

	current = &plan;
	/* whatever hangs, the run ends */
	alarm(180 + (unsigned int)(options.slack_ms / 100));
	memcpy(initial, contents.file->generation, SECTORS * sizeof(*initial));
	victim.consumer = consumer_start(page, &plan, stack.origin, target);
	writers_start(writers, &writing, stack.origin, &contents);
	writers_progress(writers, plan.threads);
	snapbak_store_release(&page->go, 1);
	faults_strike(&victim);
	wait_until_idle();
	/* the end of a session stops nobody */
	writers_progress(writers, 2 * plan.threads);
	writers_stop(writers, &record.history, &record.failed, &counts);
	count(&victim, &counts, &record);
	report(&victim, &counts, &record, now_ns() - begin);
	judge(&victim, target, &counts, &record);
	unlink(options.small);
	history_release(&record.history);
	history_release(&record.failed);
	free(writers);
	free(initial);
	alarm(0);
	current = NULL;
}

static unsigned int descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned int n = 0;

	if (!folder)
		die("/proc/self/fd: %s", strerror(errno));
	while (readdir(folder))
		n++;
	closedir(folder);
	return n;
}

/* Sessions that met nothing of what they are for have proved nothing. */
static void demand_coverage(void)
{
	if (options.sessions < ENOUGH)
		return;
	if (!sum.outcomes[OUTCOME_COMPLETE] || sum.outcomes[OUTCOME_COMPLETE] == options.sessions || !sum.captured ||
	    !sum.held)
		die("%llu of %llu sessions came to be backups, %llu blocks were captured, %llu writes held: this was no test",
		    sum.outcomes[OUTCOME_COMPLETE], options.sessions, sum.captured, sum.held);
}

static void print_sum(void)
{
	unsigned int i;

	printf("{\"sessions\": %llu, \"outcomes\": {", options.sessions);
	for (i = 0; i < OUTCOMES; i++)
		printf("%s\"%s\": %llu", i ? ", " : "", outcome_names[i], sum.outcomes[i]);
	printf("}, \"reasons\": [");
	for (i = 0; i <= SNAPBAK_REASON_STALLED; i++)
		printf("%s%llu", i ? ", " : "", sum.reasons[i]);
	printf("], \"faults\": {");
	for (i = 0; i < FAULT_KINDS; i++)
		printf("%s\"%s\": %llu", i ? ", " : "", fault_names[i], sum.struck[i]);
	printf("}, \"requests\": %llu, \"failedRequests\": %llu, \"captured\": %llu, \"held\": %llu, \"invalid\": %llu, "
	       "\"heldMaxMs\": %llu, \"slowestMs\": %llu}\n",
	       sum.requests, sum.failed, sum.captured, sum.held, sum.invalid, sum.held_max_ns / MS, sum.slowest_ns / MS);
}

static void parse(int argc, char **argv)
{
	static const struct option names[] = {
		{ "disk", required_argument, NULL, 'd' },  { "target-disk", required_argument, NULL, 't' },
		{ "small", required_argument, NULL, 'm' }, { "seed", required_argument, NULL, 's' },
		{ "first", required_argument, NULL, 'f' }, { "sessions", required_argument, NULL, 'n' },
		{ "slack", required_argument, NULL, 'l' }, { 0 },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", names, NULL)) != -1) {
		switch (option) {
		case 'd':
			options.disk = optarg;
			break;
		case 't':
			options.target_disk = optarg;
			break;
		case 'm':
			options.small = optarg;
			break;
		case 's':
			options.seed = parse_bytes("--seed", optarg);
			break;
		case 'f':
			options.first = parse_bytes("--first", optarg);
			break;
		case 'n':
			options.sessions = parse_bytes("--sessions", optarg);
			break;
		case 'l':
			options.slack_ms = parse_bytes("--slack", optarg);
			break;
		default:
			exit(1);
		}
	}
	if (!options.disk || !options.target_disk || !options.small || optind != argc)
		die("--disk DEVICE --target-disk DEVICE --small FILE [--seed N] [--first N] [--sessions N] [--slack MS]");
}

int main(int argc, char **argv)
{
	struct device device;
	struct stat status;
	unsigned int before;
	__u64 number;
	int error;

	parse(argc, argv);
	signal(SIGALRM, hangs);
	atexit(tell_where);
	stack_build(&stack, options.disk, options.target_disk, SECTORS);
	error = device_open(&device, stack.origin, O_RDWR);
	if (error || stat(stack.origin, &status))
		die("%s: %s", stack.origin, strerror(-error));
	dev = status.st_rdev;
	contents_create(&contents, NULL, options.seed, SECTORS);
	error = contents_fill(&contents, device.fd);
	if (error)
		die("%s: filling it: %s", stack.origin, strerror(-error));
	device_close(&device);
	page = consumer_page_create();
	control = open(SESSION_CONTROL, O_RDWR | O_CLOEXEC);
	if (control < 0)
		die("%s: %s", SESSION_CONTROL, strerror(errno));
	before = descriptors();
	for (number = options.first; number < options.first + options.sessions; number++)
		run_session(number);
	if (descriptors() != before)
		die("%u descriptors are open, and %u were before the first session", descriptors(), before);
	close(control);
	stack_remove(&stack);
	print_sum();
	demand_coverage();
	return 0;
}
