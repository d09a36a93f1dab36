/* SPDX-License-Identifier: MIT */
/*
 * dm.h - device-mapper devices by their ioctls: a table is swapped in a
 * millisecond, where a dmsetup takes a tenth of a second to start.
 *
 * Everything returns 0 or a negative errno.
 */
#ifndef GUEST_DM_H
#define GUEST_DM_H

#include <linux/dm-ioctl.h>
#include <linux/types.h>
#include <stddef.h>

/* One line of a table. */
struct dm_line {
	__u64 first, sectors;
	const char *target;
	char arguments[160];
};

/* A device without a table. @path: where it is to be found, without udev. */
int dm_create(const char *name, char *path, size_t size);
int dm_remove(const char *name);

/* The table that the next resume takes. */
int dm_load(const char *name, const struct dm_line *lines, unsigned int count);

/* @flags: DM_SKIP_LOCKFS_FLAG, DM_NOFLUSH_FLAG. */
int dm_suspend(const char *name, __u32 flags);

/* Also of a device that is not suspended: it is, for the moment that another table takes. */
int dm_resume(const char *name, __u32 flags);

int dm_message(const char *name, const char *message);

#endif /* GUEST_DM_H */
