// SPDX-License-Identifier: MIT
#include "chaos-faults.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS 1000000ULL
#define STUCK_NS (1500 * MS) /* without progress the next fault comes all the same */
#define CONSUMER_NS (60000 * MS) /* without progress, and with nothing in its way, it hangs */
#define SPOILT_NS (1000 * MS) /* a spoilt one may */
#define NOBODY_HELD_NS (500 * MS) /* so long must nobody be held to say that nobody will be */

enum course { WAITING, ON, OVER };

struct strikes {
	struct victim *victim;
	enum course course[PLAN_FAULTS];
	__u64 since[PLAN_FAULTS];
	__u64 begun, done, nobody_held_since;
	__u64 progress_at; /* or when a fault was last in its way */
	int ended;
};

/* What nobody may ask for, whoever has a session meanwhile. */
static void senseless_requests(const struct victim *victim)
{
	static const unsigned long commands[] = { SNAPBAK_IOC_QUERY,  SNAPBAK_IOC_OPEN,	 SNAPBAK_IOC_SETUP, SNAPBAK_IOC_START,
						  SNAPBAK_IOC_FINISH, SNAPBAK_IOC_ABORT, SNAPBAK_IOC_STATUS };
	struct snapbak_open opening = { .size = sizeof(opening), .dev = victim->dev };
	__u64 nothing[64] = { 0 };
	int control = open(SESSION_CONTROL, O_RDWR | O_CLOEXEC);
	size_t i;

	if (control < 0)
		die("%s: %s", SESSION_CONTROL, strerror(errno));
	for (i = 0; i < sizeof(commands) / sizeof(*commands); i++) {
		if (!ioctl(control, commands[i], nothing) || errno != EINVAL)
			die("a request of size 0 is not refused: %s", strerror(errno));
		if (!ioctl(control, commands[i], NULL) || errno != EFAULT)
			die("a request at no address is not refused: %s", strerror(errno));
	}
	if (!ioctl(control, _IO(SNAPBAK_IOC_TYPE, 0x7f), NULL) || errno != ENOTTY)
		die("an unknown request is not refused: %s", strerror(errno));
	/* who has it keeps it; one that is over may be followed, which this one is by its close */
	if (ioctl(control, SNAPBAK_IOC_OPEN, &opening) && errno != EBUSY && errno != ENODEV)
		die("OPEN of a busy origin: %s", strerror(errno));
	close(control);
}

static void set_weather(struct victim *victim, enum stack_place place, const struct weather *weather)
{
	__u64 begin = now_ns();

	stack_set_weather(victim->stack, place, weather);
	victim->outage_ns += now_ns() - begin;
}

static void replace(struct victim *victim, int replaced)
{
	__u64 begin = now_ns();

	stack_replace_origin(victim->stack, replaced);
	victim->outage_ns += now_ns() - begin;
}

static void break_session(const struct victim *victim)
{
	int error = stack_break_session();

	if (error && error != -ENOTCONN && !victim->stack->replaced)
		die("the message to break: %s", strerror(-error));
}

static void begin_fault(struct strikes *strikes, unsigned int n)
{
	struct victim *victim = strikes->victim;
	const struct fault *fault = &victim->plan->faults[n];
	struct consumer_page *page = victim->page;

	victim->struck[fault->kind]++;
	strikes->course[n] = OVER;
	strikes->since[n] = now_ns();
	switch (fault->kind) {
	case FAULT_KILL:
		kill(victim->consumer, SIGKILL);
		break;
	case FAULT_STOP:
	case FAULT_STALL:
		kill(victim->consumer, SIGSTOP);
		strikes->nobody_held_since = strikes->since[n];
		strikes->course[n] = ON;
		break;
	case FAULT_EXIT:
		consumer_order(page, ORDER_EXIT);
		break;
	case FAULT_ABORT:
		consumer_order(page, ORDER_ABORT);
		break;
	case FAULT_CLOSE:
		consumer_order(page, ORDER_CLOSE);
		break;
	case FAULT_RUBBISH:
		page->rubbish = fault->rubbish;
		consumer_order(page, ORDER_RUBBISH);
		break;
	case FAULT_REQUESTS:
		consumer_order(page, ORDER_REQUESTS);
		senseless_requests(victim);
		break;
	case FAULT_BREAK:
		break_session(victim);
		break;
	case FAULT_SIGNALS:
		strikes->course[n] = ON;
		break;
	case FAULT_SUSPEND:
		stack_suspend_origin(fault->for_ms % 2);
		strikes->course[n] = ON;
		break;
	case FAULT_RELOAD:
		stack_reload_origin(victim->stack);
		victim->outage_ns += now_ns() - strikes->since[n];
		break;
	case FAULT_REPLACE:
		replace(victim, 1);
		strikes->course[n] = ON;
		break;
	default:
		set_weather(victim, fault_place(fault->kind) == PLACE_LOWER ? STACK_LOWER : STACK_TARGET,
			    &fault->weather);
		strikes->course[n] = ON;
	}
}

static void end_fault(struct strikes *strikes, unsigned int n)
{
	static const struct weather fair = { .kind = WEATHER_FAIR };
	struct victim *victim = strikes->victim;
	enum fault_kind kind = victim->plan->faults[n].kind;

	strikes->course[n] = OVER;
	strikes->progress_at = now_ns();
	switch (kind) {
	case FAULT_STOP:
	case FAULT_STALL:
		if (!strikes->ended)
			kill(victim->consumer, SIGCONT);
		/* what a consumer that lives may keep, the policy to hold keeps */
		if (victim->plan->geometry.on_full == SNAPBAK_ON_FULL_HOLD)
			victim->outage_ns += now_ns() - strikes->since[n];
		break;
	case FAULT_SUSPEND:
		stack_resume_origin();
		victim->outage_ns += now_ns() - strikes->since[n];
		break;
	case FAULT_REPLACE:
		replace(victim, 0);
		break;
	case FAULT_SIGNALS:
		break;
	default:
		set_weather(victim, fault_place(kind) == PLACE_LOWER ? STACK_LOWER : STACK_TARGET, &fair);
	}
}

/* The consumer stands still: the driver must give it up as soon as its patience ends. */
static int stalled_long_enough(struct strikes *strikes, unsigned int n, __u64 now)
{
	const struct victim *victim = strikes->victim;
	struct snapbak_status status;

	/* what the header says of held writes is not to be relied on then */
	if (victim->struck[FAULT_RUBBISH])
		return now - strikes->since[n] > victim->patience_ns + NOBODY_HELD_NS;
	if (session_status(victim->control, victim->dev, &status) || !status.nr_slots ||
	    status.state >= SNAPBAK_STATE_FINISHED)
		return 1;
	if (status.counters[SNAPBAK_C_HELD_NOW])
		strikes->nobody_held_since = now;
	if (now - strikes->nobody_held_since > NOBODY_HELD_NS)
		return 1;
	if (now - strikes->since[n] > victim->patience_ns + victim->outage_ns + 2 * victim->slack_ns)
		die("%llu writes are held, and the library is stopped for %llu ms", status.counters[SNAPBAK_C_HELD_NOW],
		    (now - strikes->since[n]) / MS);
	return 0;
}

static int is_over(struct strikes *strikes, unsigned int n, __u64 now)
{
	const struct fault *fault = &strikes->victim->plan->faults[n];

	if (strikes->ended)
		return 1;
	if (fault->kind == FAULT_STALL)
		return stalled_long_enough(strikes, n, now);
	if (fault->kind == FAULT_SIGNALS)
		kill(strikes->victim->consumer, SIGUSR1);
	return now - strikes->since[n] > fault->for_ms * MS;
}

static int is_due(const struct strikes *strikes, unsigned int n, __u64 now)
{
	const struct consumer_page *page = strikes->victim->page;
	const struct fault *fault = &strikes->victim->plan->faults[n];

	if (fault->at < 0)
		return now - strikes->begun > (__u64)-fault->at * MS;
	if (!snapbak_load_acquire(&page->armed))
		return 0;
	return strikes->done * 100 >= (__u64)fault->at * page->listed || now - strikes->progress_at > STUCK_NS;
}

/* One at a time in its place. */
static void make_way(struct strikes *strikes, unsigned int n)
{
	const struct plan *plan = strikes->victim->plan;
	unsigned int i;

	for (i = 0; i < plan->nr_faults; i++)
		if (strikes->course[i] == ON && fault_place(plan->faults[i].kind) == fault_place(plan->faults[n].kind))
			end_fault(strikes, i);
}

static void look(struct strikes *strikes, __u64 now)
{
	struct victim *victim = strikes->victim;
	__u64 done = snapbak_load_relaxed(&victim->page->done);

	if (done != strikes->done)
		strikes->progress_at = now;
	strikes->done = done;
	if (!strikes->ended && waitpid(victim->consumer, &victim->how, WNOHANG) == victim->consumer)
		strikes->ended = 1;
}

/* Return: is anything still going on? */
static int step(struct strikes *strikes)
{
	struct victim *victim = strikes->victim;
	int on = 0;
	__u64 now = now_ns();
	unsigned int n;

	look(strikes, now);
	for (n = 0; n < victim->plan->nr_faults; n++) {
		if (strikes->course[n] == WAITING && !strikes->ended && is_due(strikes, n, now)) {
			make_way(strikes, n);
			begin_fault(strikes, n);
		} else if (strikes->course[n] == ON && is_over(strikes, n, now)) {
			end_fault(strikes, n);
		}
		on += strikes->course[n] == ON;
	}
	return on || !strikes->ended;
}

void faults_strike(struct victim *victim)
{
	struct strikes strikes = { .victim = victim, .begun = now_ns() };
	unsigned int n;

	strikes.progress_at = strikes.begun;
	for (n = 0; n < victim->plan->nr_faults; n++) {
		if (victim->plan->faults[n].kind != FAULT_TARGET_FULL)
			continue;
		/* it was given such a target */
		victim->struck[FAULT_TARGET_FULL] = 1;
		strikes.course[n] = OVER;
	}
	while (step(&strikes)) {
		__u64 alone = now_ns() - strikes.progress_at;

		if (!strikes.ended && victim->struck[FAULT_RUBBISH] && alone > SPOILT_NS)
			kill(victim->consumer, SIGKILL);
		if (alone > CONSUMER_NS + 2 * victim->slack_ns)
			die("the consumer does not come to an end: %llu of %llu blocks", strikes.done,
			    victim->page->listed);
		sleep_us(1000);
	}
}
