/* SPDX-License-Identifier: GPL-2.0 */
/*
 * dm-snapbak-compat.h - what differs between kernels, 5.10 to the newest.
 *
 * The rest of the module is written for the newest kernel. Whatever an older
 * one does otherwise is given here under one name, and no other file asks for
 * a version.
 */
#ifndef DM_SNAPBAK_COMPAT_H
#define DM_SNAPBAK_COMPAT_H

#include <linux/version.h>
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/hrtimer.h>
#include <linux/mm.h>
#include <linux/workqueue.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
#include <linux/genhd.h>
#endif

/* Target features that came one by one; a kernel without one needs no flag for it. */
#ifndef DM_TARGET_NOWAIT
#define DM_TARGET_NOWAIT 0
#endif
#ifndef DM_TARGET_PASSES_CRYPTO
#define DM_TARGET_PASSES_CRYPTO 0
#endif
#ifndef DM_TARGET_ATOMIC_WRITES
#define DM_TARGET_ATOMIC_WRITES 0
#endif

/* 6.17: a work queue says that it is bound to processors. An enumerator, not a macro. */
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 17, 0)
#define WQ_PERCPU 0
#endif

/* A read bio on @bdev; 5.18 gave the function the device and the operation. */
static inline struct bio *snapbak_compat_bio_alloc(struct block_device *bdev,
						   unsigned short nr_vecs, gfp_t gfp,
						   struct bio_set *bs)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 18, 0)
	return bio_alloc_bioset(bdev, nr_vecs, REQ_OP_READ, gfp, bs);
#else
	struct bio *bio = bio_alloc_bioset(gfp, nr_vecs, bs);

	if (bio) {
		bio_set_dev(bio, bdev);
		bio->bi_opf = REQ_OP_READ;
	}
	return bio;
#endif
}

/* A write that is submitted late, by a worker, is not polled for by its submitter. */
static inline void snapbak_compat_bio_unpoll(struct bio *bio)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(5, 16, 0)
	bio->bi_opf &= ~REQ_POLLED;
#else
	bio->bi_opf &= ~REQ_HIPRI;
#endif
}

/* 6.11: a target to which flushes mean nothing of their own may say so. */
static inline void snapbak_compat_flush_bypasses_map(struct dm_target *ti)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 11, 0)
	ti->flush_bypasses_map = true;
#endif
}

/* 6.13 joined hrtimer_init() and the assignment of the function. */
static inline void snapbak_compat_hrtimer_setup(struct hrtimer *timer,
						enum hrtimer_restart (*function)(struct hrtimer *))
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 13, 0)
	hrtimer_setup(timer, function, CLOCK_MONOTONIC, HRTIMER_MODE_ABS);
#else
	hrtimer_init(timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS);
	timer->function = function;
#endif
}

/* 6.3: flags of a vma are changed by functions. */
static inline void snapbak_compat_vm_flags_set(struct vm_area_struct *vma, vm_flags_t flags)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 3, 0)
	vm_flags_set(vma, flags);
#else
	vma->vm_flags |= flags;
#endif
}

/*
 * An open block device, and the freezing of its file system. The functions
 * moved from block_device to handle (6.7) to file (6.9); freezing returned a
 * super block before 5.11, and has its present name since 6.8.
 */
struct snapbak_compat_bdev {
	struct block_device *bdev;
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	struct file *file;
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	struct bdev_handle *handle;
#elif LINUX_VERSION_CODE < KERNEL_VERSION(5, 11, 0)
	struct super_block *frozen;
#endif
};

/* Opens the device for reading, shared. May sleep. 0 or a negative errno. */
static inline int snapbak_compat_bdev_open(struct snapbak_compat_bdev *b, dev_t dev)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	b->file = bdev_file_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);
	if (IS_ERR(b->file))
		return PTR_ERR(b->file);
	b->bdev = file_bdev(b->file);
	return 0;
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	b->handle = bdev_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);
	if (IS_ERR(b->handle))
		return PTR_ERR(b->handle);
	b->bdev = b->handle->bdev;
	return 0;
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
	b->bdev = blkdev_get_by_dev(dev, BLK_OPEN_READ, NULL, NULL);
	return PTR_ERR_OR_ZERO(b->bdev);
#else
	b->bdev = blkdev_get_by_dev(dev, FMODE_READ, NULL);
	return PTR_ERR_OR_ZERO(b->bdev);
#endif
}

static inline void snapbak_compat_bdev_close(struct snapbak_compat_bdev *b)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 9, 0)
	bdev_fput(b->file);
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 7, 0)
	bdev_release(b->handle);
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(6, 5, 0)
	blkdev_put(b->bdev, NULL);
#else
	blkdev_put(b->bdev, FMODE_READ);
#endif
}

/* Writes the dirty pages and freezes the file system, if there is one. May sleep. */
static inline int snapbak_compat_bdev_freeze(struct snapbak_compat_bdev *b)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	return bdev_freeze(b->bdev);
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
	return freeze_bdev(b->bdev);
#else
	b->frozen = freeze_bdev(b->bdev);
	return PTR_ERR_OR_ZERO(b->frozen);
#endif
}

static inline int snapbak_compat_bdev_thaw(struct snapbak_compat_bdev *b)
{
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 8, 0)
	return bdev_thaw(b->bdev);
#elif LINUX_VERSION_CODE >= KERNEL_VERSION(5, 11, 0)
	return thaw_bdev(b->bdev);
#else
	return thaw_bdev(b->bdev, b->frozen);
#endif
}

/*
 * Between the two, grace periods of RCU are waited for with interrupts instead
 * of patience; calls nest. Exported in every kernel here, but declared in a
 * header of RCU's own.
 */
#ifdef CONFIG_TINY_RCU
static inline void rcu_expedite_gp(void) { }
static inline void rcu_unexpedite_gp(void) { }
#else
void rcu_expedite_gp(void);
void rcu_unexpedite_gp(void);
#endif

#endif /* DM_SNAPBAK_COMPAT_H */
