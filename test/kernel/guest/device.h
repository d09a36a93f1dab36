/* SPDX-License-Identifier: MIT */
/*
 * device.h - block devices and images: open, size, whole transfers.
 *
 * Everything returns 0 or a negative errno; a short transfer is -EIO.
 */
#ifndef GUEST_DEVICE_H
#define GUEST_DEVICE_H

#include "util.h"

struct device {
	int fd; /* O_DIRECT */
	__u64 bytes;
	__u32 sector_size; /* logical; requests must be multiples of it */
};

/* @flags: O_RDONLY or O_RDWR; O_DIRECT is added for block devices. */
int device_open(struct device *device, const char *path, int flags);
void device_close(struct device *device);

/* The block device of that number (major << 20 | minor form of st_rdev), by the kernel's name for it. */
int device_path_of(__u64 dev, char *path, size_t size);

int read_fully(int fd, void *data, __u64 bytes, __u64 offset);
int write_fully(int fd, const void *data, __u64 bytes, __u64 offset);

#endif /* GUEST_DEVICE_H */
