// SPDX-License-Identifier: GPL-2.0
/*
 * /dev/snapbak/control: one session a descriptor.
 *
 * Copies requests in and out, and checks their form; what they do is in
 * session.c and arm.c. The session ends with the last reference to the file,
 * of which a mapping is one.
 */
#include <linux/capability.h>
#include <linux/file.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "dm-snapbak.h"

#define MAX_START_MS 600000ULL

static const struct file_operations snapbak_control_fops;

#define all_zero(reserved) (!memchr_inv((reserved), 0, sizeof(reserved)))

static int control_open(struct inode *inode, struct file *file)
{
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	file->private_data = snapbak_session_new();
	return file->private_data ? 0 : -ENOMEM;
}

static int control_release(struct inode *inode, struct file *file)
{
	snapbak_session_close(file->private_data);
	return 0;
}

static int do_query(struct snapbak_session *s, void *data)
{
	struct snapbak_query *arg = data;

	if (!all_zero(arg->reserved))
		return -EINVAL;
	arg->abi_version = SNAPBAK_ABI_VERSION;
	arg->driver = SNAPBAK_DRIVER_KERNEL;
	arg->max_slots = SNAPBAK_MAX_SLOTS;
	arg->min_block_shift = SNAPBAK_MIN_BLOCK_SHIFT;
	arg->max_block_shift = SNAPBAK_MAX_BLOCK_SHIFT;
	arg->features = SNAPBAK_F_DISCARD | SNAPBAK_F_WRITE_ZEROES | SNAPBAK_F_HOLD_POLICY |
			SNAPBAK_F_MULTI_START | SNAPBAK_F_THROTTLE |
			SNAPBAK_F_WATCHDOG | SNAPBAK_F_HISTOGRAMS | SNAPBAK_F_HINTS |
			SNAPBAK_F_HEAT;
	strscpy_pad((char *)arg->version, SNAPBAK_VERSION, sizeof(arg->version));
	return 0;
}

static int do_open(struct snapbak_session *s, void *data)
{
	struct snapbak_open *arg = data;
	int ret;

	if (arg->flags || !all_zero(arg->reserved))
		return -EINVAL;
	if (arg->dev != (u32)arg->dev)
		return -ENODEV;
	mutex_lock(&s->mutex);
	ret = snapbak_session_open(s, arg);
	mutex_unlock(&s->mutex);
	return ret;
}

static int do_setup(struct snapbak_session *s, void *data)
{
	struct snapbak_setup *arg = data;
	int ret;

	if (arg->pad0 || !all_zero(arg->reserved))
		return -EINVAL;
	mutex_lock(&s->mutex);
	ret = snapbak_session_setup(s, arg);
	mutex_unlock(&s->mutex);
	return ret;
}

/* Puts the session of another control descriptor behind those that are there. */
static int add_session(int fd, struct file **files, struct snapbak_session **sessions,
		       unsigned int nr)
{
	struct file *file = fget(fd);
	unsigned int i;

	if (!file)
		return -EBADF;
	files[nr] = file;
	if (file->f_op != &snapbak_control_fops)
		goto invalid;
	sessions[nr] = file->private_data;
	for (i = 0; i < nr; i++) {
		if (sessions[i] == sessions[nr])
			goto invalid;
	}
	return 0;

invalid:
	fput(file);
	return -EINVAL;
}

static int do_start(struct snapbak_session *s, void *data)
{
	struct snapbak_session **sessions;
	struct snapbak_start *arg = data;
	struct file **files;
	unsigned int nr = 1;
	int ret;

	if (!arg->timeout_ms || arg->timeout_ms > MAX_START_MS || !all_zero(arg->reserved) ||
	    arg->nr_others >= SNAPBAK_MAX_ORIGINS || !arg->nr_others != !arg->others)
		return -EINVAL;
	arg->start_realtime_ns = 0;
	arg->arm_ns = 0;
	arg->freeze_ns = 0;
	arg->failed_dev = 0;

	sessions = kcalloc(SNAPBAK_MAX_ORIGINS, sizeof(*sessions), GFP_KERNEL);
	files = kcalloc(SNAPBAK_MAX_ORIGINS, sizeof(*files), GFP_KERNEL);
	ret = -ENOMEM;
	if (!sessions || !files)
		goto out;
	sessions[0] = s;
	while (nr <= arg->nr_others) {
		s32 __user *others = u64_to_user_ptr(arg->others);
		s32 fd;

		ret = -EFAULT;
		if (get_user(fd, &others[nr - 1]))
			goto out;
		ret = add_session(fd, files, sessions, nr);
		if (ret)
			goto out;
		nr++;
	}
	ret = snapbak_start(sessions, nr, arg);
out:
	while (--nr > 0)
		fput(files[nr]);
	kfree(files);
	kfree(sessions);
	return ret;
}

static int do_finish(struct snapbak_session *s, void *data)
{
	struct snapbak_finish *arg = data;
	int ret;

	if (arg->flags || !all_zero(arg->reserved))
		return -EINVAL;
	if (mutex_lock_interruptible(&s->mutex))
		return -ERESTARTSYS;
	ret = snapbak_session_finish(s);
	mutex_unlock(&s->mutex);
	return ret;
}

static int do_abort(struct snapbak_session *s, void *data)
{
	struct snapbak_abort *arg = data;

	if (!all_zero(arg->reserved) ||
	    (arg->reason != SNAPBAK_REASON_ABORTED && arg->reason != SNAPBAK_REASON_STALLED))
		return -EINVAL;
	return snapbak_session_abort(s, arg->reason);
}

static int do_status(struct snapbak_session *s, void *data)
{
	struct snapbak_status *arg = data;
	u64 dev = arg->dev;

	if (!all_zero(arg->reserved))
		return -EINVAL;
	if (dev != (u32)dev)
		return -ENODEV;
	memset(arg, 0, sizeof(*arg));
	arg->size = sizeof(*arg);
	arg->dev = dev;
	return snapbak_status(arg);
}

static int do_hint(struct snapbak_session *s, void *data)
{
	struct snapbak_hint *arg = data;

	if (arg->flags || !all_zero(arg->reserved))
		return -EINVAL;
	if (arg->dev != (u32)arg->dev)
		return -ENODEV;
	return snapbak_hint(arg);
}

/* The requests that carry a structure; its first word is its own size. */
static const struct control_request {
	unsigned int cmd;
	int (*run)(struct snapbak_session *s, void *data);
	bool always; /* the structure is written back after an error too */
} requests[] = {
	{ SNAPBAK_IOC_QUERY, do_query },
	{ SNAPBAK_IOC_OPEN, do_open },
	{ SNAPBAK_IOC_SETUP, do_setup },
	{ SNAPBAK_IOC_START, do_start, true },
	{ SNAPBAK_IOC_FINISH, do_finish },
	{ SNAPBAK_IOC_ABORT, do_abort },
	{ SNAPBAK_IOC_STATUS, do_status },
	{ SNAPBAK_IOC_HINT, do_hint },
};

union argument {
	u32 size;
	struct snapbak_query query;
	struct snapbak_open open;
	struct snapbak_setup setup;
	struct snapbak_start start;
	struct snapbak_finish finish;
	struct snapbak_abort abort;
	struct snapbak_status status;
	struct snapbak_hint hint;
};

static long run_request(struct snapbak_session *s, const struct control_request *request,
			void __user *user)
{
	size_t size = _IOC_SIZE(request->cmd);
	union argument *arg;
	long ret;

	arg = memdup_user(user, size);
	if (IS_ERR(arg))
		return PTR_ERR(arg);
	ret = arg->size == size ? request->run(s, arg) : -EINVAL;
	if ((!ret || request->always) && copy_to_user(user, arg, size))
		ret = -EFAULT;
	kfree(arg);
	return ret;
}

static long control_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct snapbak_session *s = file->private_data;
	unsigned int i;

	if (cmd == SNAPBAK_IOC_KICK) {
		if (!snapbak_session_memory(s))
			return -EINVAL;
		snapbak_kick(s);
		return 0;
	}
	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		if (requests[i].cmd == cmd)
			return run_request(s, &requests[i], (void __user *)arg);
	}
	return -ENOTTY;
}

static int control_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct snapbak_session *s = file->private_data;
	struct snapbak_memory *m = snapbak_session_memory(s);

	return m ? snapbak_memory_map(m, vma) : -EINVAL;
}

/* Is there an event or a hint that the library has not taken, or is the session over? */
static bool has_news(struct snapbak_session *s, struct snapbak_memory *m)
{
	return READ_ONCE(s->slots.events.mine) != READ_ONCE(m->header->event_tail.value) ||
	       READ_ONCE(s->hints) != READ_ONCE(m->header->hint_tail.value) ||
	       snapbak_over(s);
}

static __poll_t control_poll(struct file *file, poll_table *wait)
{
	struct snapbak_session *s = file->private_data;
	struct snapbak_memory *m = snapbak_session_memory(s);

	if (!m)
		return EPOLLERR;
	poll_wait(file, &s->wait, wait);
	if (!has_news(s, m)) {
		/*
		 * A wake-up takes library_asleep, and what it was for may be gone
		 * when we look (an event taken meanwhile), or be no news (ARMED).
		 * Whoever sleeps on must be found by the next one: set it again.
		 */
		snapbak_store_relaxed(&m->header->library_asleep, 1);
		snapbak_full_fence();
	}
	return has_news(s, m) ? EPOLLIN | EPOLLRDNORM : 0;
}

static const struct file_operations snapbak_control_fops = {
	.owner = THIS_MODULE,
	.open = control_open,
	.release = control_release,
	.unlocked_ioctl = control_ioctl,
	.mmap = control_mmap,
	.poll = control_poll,
	.llseek = noop_llseek,
};

static struct miscdevice snapbak_control = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "snapbak",
	.nodename = "snapbak/control",
	.mode = 0600,
	.fops = &snapbak_control_fops,
};

/**
 * snapbak_control_init() - make the control device.
 *
 * Context: process; may sleep.
 * Return: 0 or a negative errno.
 */
int snapbak_control_init(void)
{
	return misc_register(&snapbak_control);
}

/**
 * snapbak_control_exit() - take the control device away; no descriptor is open.
 *
 * Context: process; may sleep.
 */
void snapbak_control_exit(void)
{
	misc_deregister(&snapbak_control);
}
