// SPDX-License-Identifier: MIT
#include "range-lock.h"

#include <string.h>

void range_lock_init(struct range_lock *lock)
{
	memset(lock, 0, sizeof(*lock));
	pthread_mutex_init(&lock->mutex, NULL);
	pthread_cond_init(&lock->left, NULL);
}

static int is_free(const struct range_lock *lock, __u64 first, __u64 end)
{
	unsigned int i;

	for (i = 0; i < RANGE_LOCK_HOLDERS; i++)
		if (lock->held[i].first < end && first < lock->held[i].end)
			return 0;
	return 1;
}

void range_lock_take(struct range_lock *lock, unsigned int holder, __u64 first, __u64 end)
{
	pthread_mutex_lock(&lock->mutex);
	while (!is_free(lock, first, end))
		pthread_cond_wait(&lock->left, &lock->mutex);
	lock->held[holder].first = first;
	lock->held[holder].end = end;
	pthread_mutex_unlock(&lock->mutex);
}

void range_lock_leave(struct range_lock *lock, unsigned int holder)
{
	pthread_mutex_lock(&lock->mutex);
	lock->held[holder].first = 0;
	lock->held[holder].end = 0;
	pthread_cond_broadcast(&lock->left);
	pthread_mutex_unlock(&lock->mutex);
}
