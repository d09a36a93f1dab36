// SPDX-License-Identifier: MIT
/*
 * freeze DIRECTORY - freezes and thaws the file system, as START does, without
 * a driver of ours; prints how long both took, nanoseconds.
 */
#include "util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

int main(int argc, char **argv)
{
	__u64 began;
	int fd;

	if (argc != 2)
		die("freeze DIRECTORY");
	fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		die("%s: %s", argv[1], strerror(errno));
	began = now_ns();
	if (ioctl(fd, FIFREEZE, 0) || ioctl(fd, FITHAW, 0))
		die("%s: %s", argv[1], strerror(errno));
	printf("%llu\n", now_ns() - began);
	return 0;
}
