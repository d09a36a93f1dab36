// SPDX-License-Identifier: MIT
#include "device.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int device_open(struct device *device, const char *path, int flags)
{
	struct stat status;
	int logical = SECTOR;
	int fd;

	if (stat(path, &status))
		return -errno;
	if (S_ISBLK(status.st_mode))
		flags |= O_DIRECT;
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	device->fd = fd;
	device->bytes = (__u64)status.st_size;
	if (S_ISBLK(status.st_mode) && (ioctl(fd, BLKGETSIZE64, &device->bytes) || ioctl(fd, BLKSSZGET, &logical))) {
		int error = -errno;

		close(fd);
		return error;
	}
	device->sector_size = (__u32)logical;
	return 0;
}

void device_close(struct device *device)
{
	close(device->fd);
}

int device_path_of(__u64 dev, char *path, size_t size)
{
	char line[256], name[201];
	int error = -ENODEV;
	FILE *file;

	snprintf(path, size, "/sys/dev/block/%u:%u/uevent", major(dev), minor(dev));
	file = fopen(path, "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "DEVNAME=%200s", name) == 1) {
			snprintf(path, size, "/dev/%s", name);
			error = 0;
		}
	}
	fclose(file);
	return error;
}

int read_fully(int fd, void *data, __u64 bytes, __u64 offset)
{
	char *at = data;

	while (bytes) {
		ssize_t n = pread(fd, at, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += n;
		offset += (__u64)n;
		bytes -= (__u64)n;
	}
	return 0;
}

int write_fully(int fd, const void *data, __u64 bytes, __u64 offset)
{
	const char *at = data;

	while (bytes) {
		ssize_t n = pwrite(fd, at, bytes, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n ? -errno : -EIO;
		at += n;
		offset += (__u64)n;
		bytes -= (__u64)n;
	}
	return 0;
}
