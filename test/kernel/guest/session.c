// SPDX-License-Identifier: MIT
#include "session.h"

#include "snapbak_hints.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int request(int control, unsigned long command, void *argument)
{
	return ioctl(control, command, argument) < 0 ? -errno : 0;
}

static int open_lower(struct session *session)
{
	char path[256];
	int error = device_path_of(session->opened.lower_dev, path, sizeof(path));

	return error ? error : device_open(&session->lower, path, O_RDONLY);
}

int session_open(struct session *session, const char *origin)
{
	struct stat status;
	int error;

	memset(session, 0, sizeof(*session));
	if (stat(origin, &status))
		return -errno;
	session->control = open(SESSION_CONTROL, O_RDWR | O_CLOEXEC);
	if (session->control < 0)
		return -errno;
	session->opened.size = sizeof(session->opened);
	session->opened.dev = status.st_rdev;
	error = request(session->control, SNAPBAK_IOC_OPEN, &session->opened);
	if (!error)
		error = open_lower(session);
	if (error)
		close(session->control);
	return error;
}

static void map_areas(struct session *session)
{
	struct snapbak_shm *shm = session->shm;
	char *base = (char *)shm;

	session->bitmap = (__u64 *)(base + shm->bitmap_off);
	session->slots = (unsigned char *)(base + shm->slots_off);
	session->events = (struct snapbak_ring){
		.head = &shm->event_head.value,
		.tail = &shm->event_tail.value,
		.entries = base + shm->event_off,
		.nr = shm->nr_events,
	};
	session->free = (struct snapbak_ring){
		.head = &shm->free_head.value,
		.tail = &shm->free_tail.value,
		.entries = base + shm->free_off,
		.nr = shm->nr_free,
	};
}

int session_setup(struct session *session, const struct session_geometry *geometry)
{
	struct snapbak_setup setup = {
		.size = sizeof(setup),
		.block_shift = geometry->block_shift,
		.nr_slots = geometry->nr_slots,
		.on_full = geometry->on_full,
		.hold_timeout_ms = geometry->hold_timeout_ms,
		.stall_timeout_ms = geometry->stall_timeout_ms,
		.flags = geometry->flags,
	};
	int error = request(session->control, SNAPBAK_IOC_SETUP, &setup);
	void *map;

	if (error)
		return error;
	map = mmap(NULL, setup.map_size, PROT_READ | PROT_WRITE, MAP_SHARED, session->control, 0);
	if (map == MAP_FAILED)
		return -errno;
	session->shm = map;
	session->map_size = setup.map_size;
	error = snapbak_layout_check(session->shm, setup.map_size);
	if (!error && (session->shm->origin_size != session->opened.origin_size ||
		       session->shm->block_shift != geometry->block_shift ||
		       session->shm->nr_slots != geometry->nr_slots))
		error = -EPROTO;
	if (!error)
		map_areas(session);
	return error;
}

int session_start(struct session *const sessions[], unsigned int count, __u64 timeout_ms,
		  struct snapbak_start *reply)
{
	__s32 others[SNAPBAK_MAX_ORIGINS];
	unsigned int i;

	if (!count || count > SNAPBAK_MAX_ORIGINS)
		return -EINVAL;
	for (i = 1; i < count; i++)
		others[i - 1] = sessions[i]->control;
	*reply = (struct snapbak_start){
		.size = sizeof(*reply),
		.nr_others = count - 1,
		.others = count > 1 ? (__u64)(unsigned long)others : 0,
		.timeout_ms = timeout_ms,
	};
	return request(sessions[0]->control, SNAPBAK_IOC_START, reply);
}

int session_has_news(const struct session *session)
{
	return snapbak_ring_ready(&session->events) != 0 ||
	       snapbak_hints_ready(session->shm, snapbak_load_relaxed(&session->shm->hint_tail.value)) ||
	       session_state(session) >= SNAPBAK_STATE_FINISHED;
}

int session_wait(struct session *const sessions[], unsigned int count, int timeout_ms)
{
	struct pollfd polls[SNAPBAK_MAX_ORIGINS];
	int ready = 0;
	unsigned int i;

	for (i = 0; i < count; i++) {
		snapbak_store_relaxed(&sessions[i]->shm->library_asleep, 1);
		polls[i] = (struct pollfd){ .fd = sessions[i]->control, .events = POLLIN };
	}
	snapbak_full_fence();
	for (i = 0; i < count; i++)
		ready += session_has_news(sessions[i]);
	if (!ready) {
		ready = poll(polls, count, timeout_ms);
		if (ready < 0)
			ready = -errno;
	}
	for (i = 0; i < count; i++)
		snapbak_exchange(&sessions[i]->shm->library_asleep, 0);
	return ready < 0 ? ready : ready ? 0 : -ETIME;
}

int session_kick_waiting(struct session *session)
{
	snapbak_full_fence();
	if (!snapbak_load_relaxed(&session->shm->driver_waiting))
		return 0;
	return request(session->control, SNAPBAK_IOC_KICK, NULL);
}

int session_finish(struct session *session)
{
	struct snapbak_finish finish = { .size = sizeof(finish) };

	return request(session->control, SNAPBAK_IOC_FINISH, &finish);
}

int session_abort(struct session *session)
{
	struct snapbak_abort abort = { .size = sizeof(abort), .reason = SNAPBAK_REASON_ABORTED };

	return request(session->control, SNAPBAK_IOC_ABORT, &abort);
}

void session_close(struct session *session)
{
	if (session->shm)
		munmap(session->shm, session->map_size);
	device_close(&session->lower);
	close(session->control);
	session->shm = NULL;
}

int session_status(int control, __u64 dev, struct snapbak_status *status)
{
	*status = (struct snapbak_status){ .size = sizeof(*status), .dev = dev };
	return request(control, SNAPBAK_IOC_STATUS, status);
}
