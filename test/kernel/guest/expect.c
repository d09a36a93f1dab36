// SPDX-License-Identifier: MIT
#include "expect.h"

#include <stdio.h>
#include <string.h>

static unsigned int checks, wrong;

static const char *errno_name(long value)
{
	const char *name = value < 0 ? strerrorname_np((int)-value) : NULL;

	return name ? name : "-";
}

void expect(const char *what, long got, long want)
{
	checks++;
	if (got == want)
		return;
	wrong++;
	fprintf(stderr, "%s: %ld (%s), must be %ld (%s)\n", what, got, errno_name(got), want, errno_name(want));
}

int expect_end(void)
{
	printf("{\"checks\": %u, \"wrong\": %u}\n", checks, wrong);
	return wrong != 0;
}
