// SPDX-License-Identifier: MIT
#include "chaos-check.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define CHUNK_SECTORS 2048
#define SHOWN 8

static void open_to_read(struct device *device, const char *path)
{
	int error = device_open(device, path, O_RDONLY);

	if (error)
		die("%s: %s", path, strerror(-error));
}

/* The generation of each sector from @first on. */
static void read_generations(const struct device *device, const char *path, __u64 seed, __u64 first, __u64 count,
			     __s64 *generations)
{
	char *buffer = allocate_aligned((size_t)CHUNK_SECTORS * SECTOR);
	__u64 done, n, i;

	for (done = 0; done < count; done += n) {
		int error;

		n = count - done < CHUNK_SECTORS ? count - done : CHUNK_SECTORS;
		error = read_fully(device->fd, buffer, n * SECTOR, (first + done) * SECTOR);
		if (error)
			die("%s: reading %llu sectors at %llu: %s", path, n, first + done, strerror(-error));
		for (i = 0; i < n; i++)
			generations[done + i] = stamp_read(buffer + i * SECTOR, seed, first + done + i);
	}
	free(buffer);
}

/* What the last request that did not fail left in each sector. Requests over a sector never overlap. */
static __u32 *last_acknowledged(const struct record *record, __u64 sectors)
{
	__u32 *last = allocate(sectors * sizeof(*last));
	__u64 *when = allocate(sectors * sizeof(*when));
	size_t i;
	__u64 s;

	memcpy(last, record->initial, sectors * sizeof(*last));
	for (i = 0; i < record->history.count; i++) {
		const struct history_entry *entry = &record->history.entries[i];

		for (s = entry->first; s < entry->first + entry->count; s++) {
			if (entry->submitted < when[s])
				continue;
			when[s] = entry->submitted;
			last[s] = entry->generation;
		}
	}
	free(when);
	return last;
}

static int by_a_failed_one(const struct history *failed, __u64 sector, __s64 generation)
{
	size_t i;

	for (i = 0; i < failed->count; i++) {
		const struct history_entry *entry = &failed->entries[i];

		if (entry->generation == generation && sector >= entry->first && sector < entry->first + entry->count)
			return 1;
	}
	return 0;
}

__u64 check_origin(struct contents *contents, const char *path, const struct record *record)
{
	__u64 sectors = contents->file->sectors, wrong = 0, s;
	__u32 *last = last_acknowledged(record, sectors);
	__s64 *is = allocate(sectors * sizeof(*is));
	struct device device;

	open_to_read(&device, path);
	read_generations(&device, path, contents->file->seed, 0, sectors, is);
	device_close(&device);
	for (s = 0; s < sectors; s++) {
		__u32 *must = &contents->file->generation[s];

		if (*must == CONTENTS_UNKNOWN && (is[s] == last[s] || by_a_failed_one(&record->failed, s, is[s])))
			*must = (__u32)is[s];
		else if (is[s] != *must && wrong++ < SHOWN)
			fprintf(stderr, "the origin's sector %llu holds generation %lld; acknowledged was %u%s\n", s, is[s],
				last[s], *must == CONTENTS_UNKNOWN ? ", and requests that failed came after it" : "");
	}
	free(is);
	free(last);
	return wrong;
}

__u64 check_image(const struct contents *contents, const char *path, __u32 block_shift,
		  const struct consumer_page *page, struct record *record)
{
	__u64 sectors = contents->file->sectors, wrong, s;
	__s64 *image = allocate(sectors * sizeof(*image));
	struct device device;
	size_t i;

	open_to_read(&device, path);
	read_generations(&device, path, contents->file->seed, 0, sectors, image);
	device_close(&device);
	for (s = 0; s < sectors; s++)
		if (page->blocks[s * SECTOR >> block_shift] != COPY_STORED)
			image[s] = HISTORY_UNCHECKED;
	for (i = 0; i < record->failed.count; i++) {
		const struct history_entry *entry = &record->failed.entries[i];

		for (s = entry->first; s < entry->first + entry->count; s++)
			image[s] = HISTORY_UNCHECKED;
	}
	wrong = history_check(&record->history, record->initial, image, sectors, &page->instant);
	free(image);
	return wrong;
}

static int any_struck(const struct victim *victim, enum fault_kind first, enum fault_kind last)
{
	enum fault_kind kind;

	for (kind = first; kind <= last; kind++)
		if (victim->struck[kind])
			return 1;
	return 0;
}

static int broke_for_a_reason(const struct victim *victim)
{
	const struct session_geometry *geometry = &victim->plan->geometry;

	switch (victim->page->reason) {
	case SNAPBAK_REASON_NONE: /* it never came to be armed */
		return victim->page->error != -ECONNABORTED;
	case SNAPBAK_REASON_ABORTED:
		return victim->struck[FAULT_BREAK];
	case SNAPBAK_REASON_HOLD_TIMEOUT:
		return geometry->on_full == SNAPBAK_ON_FULL_BREAK;
	case SNAPBAK_REASON_ORIGIN_GONE:
		return victim->struck[FAULT_RELOAD] || victim->struck[FAULT_REPLACE];
	case SNAPBAK_REASON_STALLED:
		return geometry->stall_timeout_ms != 0;
	default:
		return 0;
	}
}

/* No invalid block without a reason either, and nothing held or uncounted. */
static int is_well_complete(const struct victim *victim)
{
	const struct consumer_page *page = victim->page;

	return !page->reason && !page->counters[SNAPBAK_C_HELD_NOW] && !page->counters[SNAPBAK_C_DELAYED_NOW] &&
	       !page->counters[SNAPBAK_C_PROTOCOL_ERRORS] &&
	       page->counters[SNAPBAK_C_CAPTURED] == page->counts.captured &&
	       (plan_fails_origin(victim->plan) || !(page->counts.invalid + page->counts.unreadable));
}

static int is_explained(const struct victim *victim)
{
	const struct consumer_page *page = victim->page;

	/* rubbish may make it fall over its own feet, but nothing else may */
	if (!victim->struck[FAULT_RUBBISH] && WIFSIGNALED(victim->how) && WTERMSIG(victim->how) != SIGKILL)
		return 0;
	switch (page->outcome) {
	case OUTCOME_NONE:
		return victim->struck[FAULT_KILL] || victim->struck[FAULT_EXIT] || victim->struck[FAULT_RUBBISH];
	case OUTCOME_COMPLETE:
		return is_well_complete(victim);
	case OUTCOME_BROKEN:
		return victim->plan->nr_faults && broke_for_a_reason(victim);
	case OUTCOME_TARGET:
		return any_struck(victim, FAULT_TARGET_ERRORS, FAULT_TARGET_BAD_PART) ?
			       page->error == -EIO || page->error == -ENOSPC :
			       victim->struck[FAULT_TARGET_FULL] && page->error == -ENOSPC;
	case OUTCOME_GAVE_UP:
		return victim->struck[FAULT_ABORT] || victim->struck[FAULT_CLOSE] || victim->struck[FAULT_RELOAD] ||
		       victim->struck[FAULT_REPLACE];
	case OUTCOME_SPOILT:
		return victim->struck[FAULT_RUBBISH];
	default:
		return 0;
	}
}

void check_outcome(const struct victim *victim)
{
	const struct consumer_page *page = victim->page;

	if (is_explained(victim))
		return;
	die("nothing explains this end: %s, error %s, reason %u, text \"%s\", wait status %#x, %llu captured by the driver, %llu came, "
	    "%llu invalid, %llu unreadable, %llu held now",
	    outcome_names[page->outcome], page->error ? strerrorname_np(-page->error) : "none", page->reason, page->text,
	    victim->how, page->counters[SNAPBAK_C_CAPTURED], page->counts.captured, page->counts.invalid,
	    page->counts.unreadable, page->counters[SNAPBAK_C_HELD_NOW]);
}
