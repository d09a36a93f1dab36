// SPDX-License-Identifier: MIT
#include "dm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define CONTROL "/dev/mapper/control"
#define MAX_BYTES 8192

/* A request: the head, then what belongs to the command. */
union request {
	struct dm_ioctl head;
	char bytes[MAX_BYTES];
};

static void begin(union request *request, const char *name, __u32 flags)
{
	memset(request, 0, sizeof(*request));
	request->head.version[0] = 4; /* of the interface, which never changes */
	request->head.data_size = sizeof(*request);
	request->head.data_start = sizeof(request->head);
	request->head.flags = flags;
	snprintf(request->head.name, sizeof(request->head.name), "%s", name);
}

static int send(union request *request, unsigned long command)
{
	int control = open(CONTROL, O_RDWR | O_CLOEXEC);
	int error;

	if (control < 0)
		return -errno;
	error = ioctl(control, command, request) < 0 ? -errno : 0;
	close(control);
	return error;
}

int dm_create(const char *name, char *path, size_t size)
{
	union request request;
	int error;

	begin(&request, name, 0);
	error = send(&request, DM_DEV_CREATE);
	if (!error)
		snprintf(path, size, "/dev/dm-%u", minor(request.head.dev));
	return error;
}

int dm_remove(const char *name)
{
	union request request;

	begin(&request, name, 0);
	return send(&request, DM_DEV_REMOVE);
}

int dm_load(const char *name, const struct dm_line *lines, unsigned int count)
{
	union request request;
	size_t at = sizeof(request.head);
	unsigned int i;

	begin(&request, name, 0);
	for (i = 0; i < count; i++) {
		struct dm_target_spec *spec = (struct dm_target_spec *)(request.bytes + at);
		size_t bytes = (sizeof(*spec) + strlen(lines[i].arguments) + 1 + 7) & ~(size_t)7;

		if (at + bytes > sizeof(request))
			return -E2BIG;
		spec->sector_start = lines[i].first;
		spec->length = lines[i].sectors;
		spec->next = (__u32)bytes;
		snprintf(spec->target_type, sizeof(spec->target_type), "%s", lines[i].target);
		strcpy((char *)(spec + 1), lines[i].arguments);
		at += bytes;
	}
	request.head.target_count = count;
	return send(&request, DM_TABLE_LOAD);
}

int dm_suspend(const char *name, __u32 flags)
{
	union request request;

	begin(&request, name, flags | DM_SUSPEND_FLAG);
	return send(&request, DM_DEV_SUSPEND);
}

int dm_resume(const char *name, __u32 flags)
{
	union request request;

	begin(&request, name, flags);
	return send(&request, DM_DEV_SUSPEND);
}

int dm_message(const char *name, const char *message)
{
	union request request;

	begin(&request, name, 0);
	strcpy(((struct dm_target_msg *)(request.bytes + sizeof(request.head)))->message, message);
	return send(&request, DM_TARGET_MSG);
}
