// SPDX-License-Identifier: GPL-2.0
/*
 * The device-mapper target: where every request to an
 * origin comes in. The first pages to read; map() is the beginning of the way.
 *
 * Table: 0 SECTORS snapbak LOWER_DEV OFFSET_SECTORS
 *
 * Without a session it is a plain remap: a write costs two counts more, and a
 * look at the tick of its region.
 */
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>

#include "dm-snapbak.h"

/* Captures whose memory is kept back, so that writes go on however short memory is. */
#define RESERVED_CAPTURES 64

/* The list of origins, and which session each has. */
DEFINE_MUTEX(snapbak_origins_mutex);
LIST_HEAD(snapbak_origins);

/**
 * snapbak_origin_find() - the live origin with a device number.
 * @dev: of the device-mapper device.
 *
 * Context: with snapbak_origins_mutex.
 * Return: the origin, or NULL.
 */
struct snapbak_origin *snapbak_origin_find(dev_t dev)
{
	struct snapbak_origin *origin;

	lockdep_assert_held(&snapbak_origins_mutex);
	/* a new table's target is live before the old one's is gone */
	list_for_each_entry_reverse(origin, &snapbak_origins, list) {
		if (origin->live && origin->dev == dev)
			return origin;
	}
	return NULL;
}

/**
 * snapbak_origin_name() - the name that device-mapper knows it by.
 * @origin: an origin of the list.
 * @buf: NUL-terminated afterwards; a long name is cut.
 * @size: of @buf.
 *
 * Context: process, with snapbak_origins_mutex; may sleep.
 */
void snapbak_origin_name(struct snapbak_origin *origin, u8 *buf, size_t size)
{
	char name[DM_NAME_LEN] = "";

	/* a device that is being removed has no name any more */
	if (dm_copy_name_and_uuid(dm_table_get_md(origin->ti->table), name, NULL))
		snprintf(name, sizeof(name), "%u:%u", MAJOR(origin->dev), MINOR(origin->dev));
	strscpy((char *)buf, name, size);
}

static void origin_free(struct kref *ref)
{
	struct snapbak_origin *origin = container_of(ref, struct snapbak_origin, ref);

	kvfree(origin->heat);
	free_percpu(origin->inside);
	kfree(origin);
}

/**
 * snapbak_origin_put() - give a reference back.
 * @origin: the origin.
 *
 * Context: process.
 */
void snapbak_origin_put(struct snapbak_origin *origin)
{
	kref_put(&origin->ref, origin_free);
}

static struct snapbak_origin *origin_alloc(struct dm_target *ti)
{
	struct snapbak_origin *origin = kzalloc(sizeof(*origin), GFP_KERNEL);

	if (!origin)
		return NULL;
	kref_init(&origin->ref);
	origin->size = (u64)ti->len << SECTOR_SHIFT;
	origin->heat_shift = snapbak_heat_shift(origin->size) - SECTOR_SHIFT;
	origin->nr_heat = snapbak_heat_regions(origin->size);
	origin->heat = kvcalloc(origin->nr_heat, sizeof(*origin->heat), GFP_KERNEL);
	origin->inside = alloc_percpu(int);
	if (!origin->heat || !origin->inside) {
		snapbak_origin_put(origin);
		return NULL;
	}
	origin->ti = ti;
	origin->dev = disk_devt(dm_disk(dm_table_get_md(ti->table)));
	spin_lock_init(&origin->lock);
	INIT_LIST_HEAD(&origin->gated);
	INIT_LIST_HEAD(&origin->ready);
	INIT_WORK(&origin->work, snapbak_worker);
	return origin;
}

/* <lower device> <offset in sectors> */
static int snapbak_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct snapbak_origin *origin;
	unsigned long long start;
	char dummy;
	int ret;

	if (argc != 2) {
		ti->error = "Two arguments are needed: lower device and offset";
		return -EINVAL;
	}
	if (sscanf(argv[1], "%llu%c", &start, &dummy) != 1 || start != (sector_t)start) {
		ti->error = "The offset is not a number of sectors";
		return -EINVAL;
	}
	origin = origin_alloc(ti);
	if (!origin) {
		ti->error = "Out of memory";
		return -ENOMEM;
	}
	origin->start = start;

	ret = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table), &origin->lower);
	if (ret) {
		ti->error = "The lower device cannot be opened";
		goto free_origin;
	}
	if (bdev_is_zoned(origin->lower->bdev)) {
		ti->error = "Zoned devices are not supported";
		ret = -EINVAL;
		goto put_device;
	}
	ret = bioset_init(&origin->captures, RESERVED_CAPTURES,
			  offsetof(struct snapbak_capture, bio), BIOSET_NEED_BVECS);
	if (ret) {
		ti->error = "Out of memory";
		goto put_device;
	}
	/* of high priority: applications wait for what it does */
	origin->wq = alloc_workqueue("dm-snapbak-%u", WQ_MEM_RECLAIM | WQ_HIGHPRI | WQ_PERCPU, 0,
				     MINOR(origin->dev));
	if (!origin->wq) {
		ti->error = "Out of memory";
		ret = -ENOMEM;
		goto exit_bioset;
	}

	ti->private = origin;
	ti->per_io_data_size = sizeof(struct snapbak_io);
	ti->num_flush_bios = 1;
	ti->num_discard_bios = 1;
	ti->num_secure_erase_bios = 1;
	ti->num_write_zeroes_bios = 1;
	snapbak_compat_flush_bypasses_map(ti);

	mutex_lock(&snapbak_origins_mutex);
	list_add_tail(&origin->list, &snapbak_origins);
	mutex_unlock(&snapbak_origins_mutex);
	return 0;

exit_bioset:
	bioset_exit(&origin->captures);
put_device:
	dm_put_device(ti, origin->lower);
free_origin:
	snapbak_origin_put(origin);
	return ret;
}

/* No request is under way, and none comes any more. */
static void snapbak_dtr(struct dm_target *ti)
{
	struct snapbak_origin *origin = ti->private;

	mutex_lock(&snapbak_origins_mutex);
	list_del(&origin->list);
	WRITE_ONCE(origin->gone, true);
	if (origin->session && snapbak_session_memory(origin->session))
		snapbak_break(origin->session, SNAPBAK_REASON_ORIGIN_GONE, -ENODEV);
	RCU_INIT_POINTER(origin->armed, NULL);
	mutex_unlock(&snapbak_origins_mutex);
	wake_up_all(&snapbak_gate_wait);

	destroy_workqueue(origin->wq);
	bioset_exit(&origin->captures);
	dm_put_device(ti, origin->lower);
	snapbak_origin_put(origin);
}

/* Part of a discard: what is pending is not discarded, and what is not pending may be. */
static int map_discard(struct snapbak_session *s, struct snapbak_io *io, struct bio *bio)
{
	const u64 *bitmap = s->memory->bitmap;
	unsigned int shift = s->memory->geometry.block_shift - SECTOR_SHIFT;
	u64 clear = snapbak_bitmap_next_clear(bitmap, io->first, io->end);
	bool drop = clear > io->first;
	u64 run = drop ? clear : snapbak_bitmap_next_set(bitmap, io->first, io->end);

	if (run < io->end) {
		/* the rest comes again as a discard of its own */
		sector_t first = bio->bi_iter.bi_sector - io->origin->start;

		dm_accept_partial_bio(bio, (run << shift) - first);
		io->end = run;
	}
	if (drop) {
		snapbak_count(s, SNAPBAK_C_DISCARDS_DROPPED, 1);
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	}
	return DM_MAPIO_REMAPPED;
}

/*
 * Nearly every write: no session, or its blocks are safe. Preemption off is all
 * that this needs, and cheaper than a call for rcu_read_lock().
 */
static bool passes(struct snapbak_origin *origin, struct snapbak_io *io, const struct bio *bio)
{
	struct snapbak_session *s;
	bool safe = true;

	rcu_read_lock_sched();
	s = rcu_dereference_sched(origin->armed);
	if (s) {
		snapbak_io_blocks(io, bio, s);
		safe = snapbak_safe(s, io->first, io->end);
	}
	rcu_read_unlock_sched();
	return safe;
}

/* What a write has to have before anybody may keep it waiting. */
static void may_wait(struct snapbak_io *io)
{
	io->session = NULL;
	io->deadline = 0;
	atomic_set(&io->pending, 1);
	io->delayed = false;
	io->waited = false;
}

/* A write some of whose blocks were pending or being captured a moment ago. */
static int map_unsafe(struct snapbak_io *io, struct bio *bio)
{
	struct snapbak_session *s;
	int ret = DM_MAPIO_REMAPPED;
	bool waits = false;

	rcu_read_lock();
	s = rcu_dereference(io->origin->armed);
	if (!s)
		goto out;
	snapbak_io_blocks(io, bio, s);
	if (bio_op(bio) == REQ_OP_DISCARD)
		ret = map_discard(s, io, bio);
	/* what is left of a discard may still have to wait for a capture */
	if (ret != DM_MAPIO_REMAPPED || snapbak_safe(s, io->first, io->end))
		goto out;
	if (bio->bi_opf & REQ_NOWAIT) {
		snapbak_count(s, SNAPBAK_C_EAGAIN, 1);
		bio_wouldblock_error(bio);
		ret = DM_MAPIO_SUBMITTED;
		goto out;
	}
	may_wait(io);
	io->session = snapbak_session_get(s);
	waits = true;
out:
	rcu_read_unlock();
	/* a bio that was ended above is gone, and its io with it */
	if (!waits)
		return ret;

	io->stage = SNAPBAK_CLAIM;
	if (READ_ONCE(s->nr_held)) {
		/* behind those that wait for a slot already */
		snapbak_queue(io);
		return DM_MAPIO_SUBMITTED;
	}
	if (!snapbak_capture(io, false))
		return DM_MAPIO_SUBMITTED;
	snapbak_session_put(io->session);
	io->session = NULL;
	return DM_MAPIO_REMAPPED;
}

/* Where a write goes, for whoever wants to copy that first. A discard calls for no capture. */
static void note_write(struct snapbak_origin *origin, const struct bio *bio)
{
	sector_t first = bio->bi_iter.bi_sector - origin->start;
	sector_t last = first + bio_sectors(bio) - 1;

	if (bio_op(bio) != REQ_OP_DISCARD)
		snapbak_heat_touch(origin->heat, first >> origin->heat_shift,
				   last >> origin->heat_shift, snapbak_heat_now());
}

static int snapbak_map(struct dm_target *ti, struct bio *bio)
{
	struct snapbak_origin *origin = ti->private;
	struct snapbak_io *io;

	bio_set_dev(bio, origin->lower->bdev);
	if (bio_sectors(bio))
		bio->bi_iter.bi_sector = origin->start +
					 dm_target_offset(ti, bio->bi_iter.bi_sector);
	if (!op_is_write(bio_op(bio)))
		return DM_MAPIO_REMAPPED;
	io = dm_per_bio_data(bio, sizeof(*io));
	io->inside = false;
	if (!bio_sectors(bio))
		return DM_MAPIO_REMAPPED; /* a flush */

	io->origin = origin;
	note_write(origin, bio);
	while (!snapbak_gate_enter(origin)) {
		if (bio->bi_opf & REQ_NOWAIT) {
			bio_wouldblock_error(bio);
			return DM_MAPIO_SUBMITTED;
		}
		may_wait(io);
		if (snapbak_gate_park(io))
			return DM_MAPIO_SUBMITTED;
	}
	io->inside = true;
	return passes(origin, io, bio) ? DM_MAPIO_REMAPPED : map_unsafe(io, bio);
}

static int snapbak_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct snapbak_io *io;

	if (!op_is_write(bio_op(bio)))
		return DM_ENDIO_DONE;
	io = dm_per_bio_data(bio, sizeof(*io));
	if (io->inside)
		snapbak_gate_leave(io->origin);
	return DM_ENDIO_DONE;
}

/* Whether this table comes back, or another takes its place, is not known yet. */
static void snapbak_postsuspend(struct dm_target *ti)
{
	struct snapbak_origin *origin = ti->private;

	mutex_lock(&snapbak_origins_mutex);
	WRITE_ONCE(origin->suspended, true);
	mutex_unlock(&snapbak_origins_mutex);
}

/* The table is, or is again, the device's live one; requests follow. */
static void snapbak_resume(struct dm_target *ti)
{
	struct snapbak_origin *origin = ti->private;

	mutex_lock(&snapbak_origins_mutex);
	origin->live = true;
	WRITE_ONCE(origin->suspended, false);
	mutex_unlock(&snapbak_origins_mutex);
	wake_up_all(&snapbak_gate_wait);
}

static const char *state_name(struct snapbak_session *s)
{
	static const char * const names[] = { "new", "ready", "armed", "finished", "broken" };

	if (!s)
		return "idle";
	if (snapbak_broken(s))
		return names[SNAPBAK_STATE_BROKEN];
	return names[READ_ONCE(s->finished) ? SNAPBAK_STATE_FINISHED : READ_ONCE(s->state)];
}

/* <state> <pending blocks> <blocks> <captured> <slots used> <slots> <held now> */
static void status_info(struct snapbak_origin *origin, char *result, unsigned int maxlen)
{
	struct snapbak_memory *m = NULL;
	struct snapbak_session *s;
	unsigned int sz = 0;

	mutex_lock(&snapbak_origins_mutex);
	s = origin->session;
	if (s)
		m = snapbak_session_memory(s);
	if (!m) {
		DMEMIT("%s", state_name(s));
	} else {
		const u64 *counters = m->header->counters;

		DMEMIT("%s %llu %llu %llu %llu %u %llu", state_name(s),
		       snapbak_bitmap_count(m->bitmap, 0, m->geometry.nr_blocks),
		       m->geometry.nr_blocks, READ_ONCE(counters[SNAPBAK_C_CAPTURED]),
		       READ_ONCE(counters[SNAPBAK_C_SLOTS_USED]), m->geometry.nr_slots,
		       READ_ONCE(counters[SNAPBAK_C_HELD_NOW]));
	}
	mutex_unlock(&snapbak_origins_mutex);
}

static void snapbak_target_status(struct dm_target *ti, status_type_t type, unsigned int flags,
				  char *result, unsigned int maxlen)
{
	struct snapbak_origin *origin = ti->private;
	unsigned int sz = 0;

	switch (type) {
	case STATUSTYPE_INFO:
		status_info(origin, result, maxlen);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s %llu", origin->lower->name, (unsigned long long)origin->start);
		break;
	default: /* measurement of tables, in kernels that have it */
		*result = '\0';
		break;
	}
}

/* break: end the session, whoever owns it; the writes that it holds go on */
static int snapbak_message(struct dm_target *ti, unsigned int argc, char **argv,
			   char *result, unsigned int maxlen)
{
	struct snapbak_origin *origin = ti->private;
	struct snapbak_session *s;
	int ret = -ENOTCONN;

	if (argc != 1 || strcasecmp(argv[0], "break"))
		return -EINVAL;
	mutex_lock(&snapbak_origins_mutex);
	s = origin->session;
	if (s && snapbak_session_memory(s)) {
		snapbak_break(s, SNAPBAK_REASON_ABORTED, 0);
		ret = 0;
	}
	mutex_unlock(&snapbak_origins_mutex);
	return ret;
}

static int snapbak_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct snapbak_origin *origin = ti->private;

	return fn(ti, origin->lower, origin->start, ti->len, data);
}

/*
 * No prepare_ioctl: commands that bypass the block layer (SG_IO) could write
 * what is not captured. Integrity data and inline encryption pass: captures
 * are reads of their own, of what the lower device holds.
 */
static struct target_type snapbak_target = {
	.name = "snapbak",
	.version = {0, 1, 0},
	.features = DM_TARGET_SINGLETON | DM_TARGET_PASSES_INTEGRITY | DM_TARGET_PASSES_CRYPTO |
		    DM_TARGET_NOWAIT | DM_TARGET_ATOMIC_WRITES,
	.module = THIS_MODULE,
	.ctr = snapbak_ctr,
	.dtr = snapbak_dtr,
	.map = snapbak_map,
	.end_io = snapbak_end_io,
	.postsuspend = snapbak_postsuspend,
	.resume = snapbak_resume,
	.status = snapbak_target_status,
	.message = snapbak_message,
	.iterate_devices = snapbak_iterate_devices,
};

static int __init snapbak_init(void)
{
	int ret = dm_register_target(&snapbak_target);

	if (ret)
		return ret;
	ret = snapbak_control_init();
	if (ret)
		dm_unregister_target(&snapbak_target);
	return ret;
}

static void __exit snapbak_exit(void)
{
	snapbak_control_exit();
	dm_unregister_target(&snapbak_target);
}

module_init(snapbak_init);
module_exit(snapbak_exit);

MODULE_DESCRIPTION(DM_NAME " target that captures blocks before they are overwritten, for online backup");
MODULE_AUTHOR("Snapbak contributors");
MODULE_LICENSE("GPL");
MODULE_VERSION(SNAPBAK_VERSION);
