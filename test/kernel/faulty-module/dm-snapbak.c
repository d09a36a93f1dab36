// SPDX-License-Identifier: GPL-2.0
/*
 * A module that commits, when it is loaded, the fault that its parameter
 * names: by it the tests see that the virtual machine's kernel notices such a
 * fault and that the run fails.
 */
#include <linux/delay.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

static char *fault = "none";
module_param(fault, charp, 0);

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(spin);

static void take_both(struct mutex *outer, struct mutex *inner)
{
	mutex_lock(outer);
	mutex_lock(inner);
	mutex_unlock(inner);
	mutex_unlock(outer);
}

static void deadlock(void)
{
	take_both(&first, &second);
	take_both(&second, &first);
}

static void leak(void)
{
	if (!kmalloc(64, GFP_KERNEL))
		pr_err("nothing to leak\n");
}

static void use_after_free(void)
{
	char *volatile buffer = kmalloc(64, GFP_KERNEL);

	kfree(buffer);
	buffer[3] = 1;
}

static void beyond_the_end(void)
{
	char *volatile buffer = kmalloc(64, GFP_KERNEL);
	volatile int at = 64;

	buffer[at] = 1;
	kfree(buffer);
}

static void sleep_under_spinlock(void)
{
	spin_lock(&spin);
	msleep(20);
	spin_unlock(&spin);
}

static const struct {
	const char *name;
	void (*commit)(void);
} faults[] = {
	{ "deadlock", deadlock },
	{ "leak", leak },
	{ "use-after-free", use_after_free },
	{ "beyond-the-end", beyond_the_end },
	{ "sleep-under-spinlock", sleep_under_spinlock },
};

static int __init faulty_init(void)
{
	size_t i;

	WARN_ON(!strcmp(fault, "warning"));
	BUG_ON(!strcmp(fault, "bug"));
	for (i = 0; i < ARRAY_SIZE(faults); i++)
		if (!strcmp(fault, faults[i].name))
			faults[i].commit();
	return 0;
}

static void __exit faulty_exit(void)
{
}

module_init(faulty_init);
module_exit(faulty_exit);

MODULE_DESCRIPTION("commits a fault on purpose, to test the tests");
MODULE_LICENSE("GPL");
