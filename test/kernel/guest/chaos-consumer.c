// SPDX-License-Identifier: MIT
#include "chaos-consumer.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define START_TIMEOUT_MS 60000
#define FINISH_TRIES 5000
#define RUBBISH_WORDS 40

const char *const outcome_names[OUTCOMES] = {
	"none", "complete", "broken", "targetFailed", "gaveUp", "spoilt", "fault",
};

struct consumer {
	struct consumer_page *page;
	const struct plan *plan;
	struct session session;
	struct copy copy;
	struct random random;
	int target; /* descriptor */
	int target_error;
	int spoilt;
};

struct consumer_page *consumer_page_create(void)
{
	void *page = mmap(NULL, sizeof(struct consumer_page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		die("no memory for a page: %s", strerror(errno));
	return page;
}

void consumer_order(struct consumer_page *page, enum consumer_order order)
{
	snapbak_store_release(&page->order, order);
}

/* What is known so far, for whoever finds the page when we are gone. */
static void tell(struct consumer *consumer)
{
	struct consumer_page *page = consumer->page;
	unsigned int i;

	page->counts = consumer->copy.counts;
	snapbak_store_relaxed(&page->done, page->listed - consumer->copy.left);
	for (i = 0; i < SNAPBAK_NR_COUNTERS; i++)
		page->counters[i] = session_counter(&consumer->session, i);
}

static _Noreturn void end(struct consumer *consumer, enum consumer_outcome outcome, int error, const char *text)
{
	struct consumer_page *page = consumer->page;

	if (consumer->spoilt)
		outcome = OUTCOME_SPOILT;
	page->error = error;
	snprintf(page->text, sizeof(page->text), "%s", text);
	if (consumer->session.shm)
		page->reason = snapbak_load_relaxed(&consumer->session.shm->reason);
	snapbak_store_release(&page->outcome, outcome);
	_exit(0);
}

static int store(void *context, const void *data, __u64 bytes, __u64 offset)
{
	struct consumer *consumer = context;

	consumer->target_error = write_fully(consumer->target, data, bytes, offset);
	return consumer->target_error;
}

static void open_target(struct consumer *consumer, const char *path)
{
	struct stat status;
	int device = !stat(path, &status) && S_ISBLK(status.st_mode);

	consumer->target = open(path, O_RDWR | O_CLOEXEC | (device ? O_DIRECT : O_CREAT | O_TRUNC), 0600);
	if (consumer->target < 0)
		end(consumer, OUTCOME_FAULT, -errno, "its target cannot be opened");
	if (!device && ftruncate(consumer->target, (off_t)consumer->session.shm->origin_size))
		end(consumer, OUTCOME_FAULT, -errno, "its target cannot be made");
}

static void set_up(struct consumer *consumer, const char *origin)
{
	struct session *session = &consumer->session;
	const struct plan *plan = consumer->plan;
	int error = session_open(session, origin);

	/* its table may be another one just now */
	if (error == -ENODEV && (plan_has(plan, FAULT_RELOAD) || plan_has(plan, FAULT_REPLACE)))
		end(consumer, OUTCOME_GAVE_UP, error, "the origin is away");
	if (error)
		end(consumer, OUTCOME_FAULT, error, "OPEN");
	error = session_setup(session, &plan->geometry);
	if (error)
		end(consumer, OUTCOME_FAULT, error, "SETUP");
	if (session->shm->nr_blocks > CONSUMER_MAX_BLOCKS)
		end(consumer, OUTCOME_FAULT, -E2BIG, "the page has no room for so many blocks");
	if (plan->throttle_rate) {
		session->shm->throttle_rate = plan->throttle_rate;
		session->shm->throttle_max_us = 500000;
		session->shm->throttle_full = plan->geometry.nr_slots;
		session->shm->throttle_begin = plan->geometry.nr_slots / 2;
	}
	copy_init(&consumer->copy, session, &plan->copy, store, consumer);
	plan_list(plan, &consumer->copy);
	consumer->page->listed = consumer->copy.left;
}

static void start(struct consumer *consumer)
{
	struct session *sessions[] = { &consumer->session };
	struct consumer_page *page = consumer->page;
	struct snapbak_start reply;
	int error;

	page->instant.called = now_ns();
	error = session_start(sessions, 1, START_TIMEOUT_MS, &reply);
	page->instant.returned = now_ns();
	/* or dirty pages could not be written on the way */
	if (error == -EPIPE || error == -ECANCELED || error == -ENODEV ||
	    (error == -EIO && plan_fails_origin(consumer->plan)))
		end(consumer, OUTCOME_BROKEN, error, "START");
	if (error)
		end(consumer, OUTCOME_FAULT, error, "START");
	page->instant.claimed = consumer->session.shm->start_monotonic_ns;
	page->arm_ns = reply.arm_ns;
	snapbak_store_release(&page->armed, 1);
}

/* What is out of order is refused, whatever the session goes through meanwhile. */
static void refused_requests(struct consumer *consumer)
{
	struct snapbak_setup setup = {
		.size = sizeof(setup), .block_shift = 16, .nr_slots = 4, .hold_timeout_ms = 1000
	};
	struct snapbak_open again = { .size = sizeof(again), .dev = consumer->session.opened.lower_dev };
	struct session *sessions[] = { &consumer->session };
	struct snapbak_start reply;
	int control = consumer->session.control;
	int error;

	if (!ioctl(control, SNAPBAK_IOC_SETUP, &setup) || errno != EINVAL)
		end(consumer, OUTCOME_FAULT, -errno, "a second SETUP is not refused");
	if (!ioctl(control, SNAPBAK_IOC_OPEN, &again) || errno != EINVAL)
		end(consumer, OUTCOME_FAULT, -errno, "a second OPEN is not refused");
	error = session_start(sessions, 1, 1000, &reply);
	if (error != -EINVAL && error != -EPIPE)
		end(consumer, OUTCOME_FAULT, error, "a second START is not refused");
	(void)!ioctl(control, SNAPBAK_IOC_KICK, NULL);
}

static void obey(struct consumer *consumer)
{
	enum consumer_order order = snapbak_exchange(&consumer->page->order, ORDER_NONE);
	unsigned int i;
	int error;

	switch (order) {
	case ORDER_NONE:
		return;
	case ORDER_EXIT:
		_exit(0);
	case ORDER_ABORT:
		error = session_abort(&consumer->session);
		if (!error && session_state(&consumer->session) != SNAPBAK_STATE_BROKEN)
			end(consumer, OUTCOME_FAULT, 0, "after ABORT it is not broken");
		end(consumer, error ? OUTCOME_FAULT : OUTCOME_GAVE_UP, error, "ABORT");
	case ORDER_CLOSE:
		close(consumer->session.control);
		sleep_us(random_below(&consumer->random, 20000));
		end(consumer, OUTCOME_GAVE_UP, 0, "closed");
	case ORDER_RUBBISH:
		consumer->spoilt = 1;
		for (i = 0; i < RUBBISH_WORDS; i++)
			rubbish_write(&consumer->session, consumer->page->rubbish, &consumer->random);
		return;
	case ORDER_REQUESTS:
		refused_requests(consumer);
		return;
	}
}

static void finish(struct consumer *consumer)
{
	struct session *session = &consumer->session;
	int tries, error = -EBUSY;

	if (fsync(consumer->target)) {
		error = -errno;
		session_abort(session);
		end(consumer, OUTCOME_TARGET, error, "fsync");
	}
	/* the driver may be busy with what it has just published; a signal may come */
	for (tries = 0; (error == -EBUSY || error == -EINTR) && tries < FINISH_TRIES; tries++) {
		error = session_finish(session);
		if (error == -EBUSY)
			sleep_us(1000);
	}
	tell(consumer);
	if (error == -EPIPE)
		end(consumer, OUTCOME_BROKEN, error, "FINISH");
	if (error)
		end(consumer, OUTCOME_FAULT, error, "FINISH");
	if (!consumer->spoilt && session_state(session) != SNAPBAK_STATE_FINISHED)
		end(consumer, OUTCOME_FAULT, 0, "after FINISH it is not finished");
	if (!consumer->spoilt)
		memcpy(consumer->page->blocks, consumer->copy.blocks, session->shm->nr_blocks);
	end(consumer, OUTCOME_COMPLETE, 0, "");
}

static void run(struct consumer *consumer)
{
	struct copy *copies[] = { &consumer->copy };

	while (consumer->copy.left) {
		int did;

		obey(consumer);
		did = copy_step(&consumer->copy);
		if (!did)
			did = copy_wait(copies, 1);
		tell(consumer);
		if (did >= 0)
			continue;
		if (consumer->target_error) {
			session_abort(&consumer->session);
			end(consumer, OUTCOME_TARGET, consumer->target_error, "write");
		}
		end(consumer, did == -ECONNABORTED ? OUTCOME_BROKEN : OUTCOME_FAULT, did, consumer->copy.fault);
	}
	finish(consumer);
}

static void ignore(int signal)
{
	(void)signal;
}

pid_t consumer_start(struct consumer_page *page, const struct plan *plan, const char *origin, const char *target)
{
	/* without SA_RESTART: what can be interrupted is */
	const struct sigaction interrupt = { .sa_handler = ignore };
	struct consumer consumer = { .page = page, .plan = plan, .random = { .state = plan->copy.seed } };
	pid_t parent = getpid(), child;

	memset(page, 0, sizeof(*page));
	fflush(stdout);
	child = fork();
	if (child < 0)
		die("no process: %s", strerror(errno));
	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	sigaction(SIGUSR1, &interrupt, NULL);
	while (!snapbak_load_acquire(&page->go))
		sleep_us(200);
	set_up(&consumer, origin);
	open_target(&consumer, target);
	start(&consumer);
	run(&consumer);
	_exit(1);
}
