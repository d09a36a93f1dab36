// SPDX-License-Identifier: GPL-2.0
/*
 * The shared memory of a session: header, bitmap, rings,
 * slots.
 *
 * Ordinary pages, each with its own reference, so that the library may do
 * direct I/O on them and a page outlives the session as long as such I/O runs.
 * The kernel maps header, bitmap and rings for itself; the slots only ever
 * meet the device.
 */
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "dm-snapbak.h"

/* Pieces of a slot: fewer of them make cheaper requests, smaller ones are easier to get. */
#define MAX_PIECE_ORDER 4

/* Fills pages[0, nr) with zeroed pages, in runs where memory allows. 0 or -ENOMEM. */
static int alloc_pages_for(struct page **pages, unsigned long nr, unsigned int order)
{
	const gfp_t gfp = GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN;
	unsigned long done = 0, i;

	while (done < nr) {
		struct page *page;

		while (order && nr - done < 1UL << order)
			order--;
		page = alloc_pages(order ? gfp | __GFP_NORETRY : gfp | __GFP_RETRY_MAYFAIL, order);
		if (!page && order) {
			order--;
			continue;
		}
		if (!page)
			return -ENOMEM;
		if (order)
			split_page(page, order);
		for (i = 0; i < 1UL << order; i++)
			pages[done + i] = page + i;
		done += 1UL << order;
		if (fatal_signal_pending(current))
			return -EINTR;
		cond_resched();
	}
	return 0;
}

/**
 * snapbak_memory_free() - unmap and let go of the pages.
 * @m: the memory, or NULL.
 *
 * Context: process; may sleep.
 */
void snapbak_memory_free(struct snapbak_memory *m)
{
	unsigned long i;

	if (!m)
		return;
	if (m->header)
		vunmap(m->header);
	for (i = 0; m->pages && i < m->nr_pages && m->pages[i]; i++)
		put_page(m->pages[i]);
	kvfree(m->pages);
	kfree(m);
}

/**
 * snapbak_memory_alloc() - the memory of a new session, its header filled in.
 * @origin_size: bytes.
 * @block_shift: the block size.
 * @nr_slots: how many.
 * @flags: SNAPBAK_SETUP_.
 *
 * Charged to the caller's memory cgroup.
 *
 * Context: process; may sleep.
 * Return: the memory, or ERR_PTR: -EINVAL for geometry or flags out of
 * range, -ENOMEM, -EINTR.
 */
struct snapbak_memory *snapbak_memory_alloc(u64 origin_size, u32 block_shift, u32 nr_slots,
					    u32 flags)
{
	struct snapbak_memory *m = kzalloc(sizeof(*m), GFP_KERNEL_ACCOUNT);
	struct snapbak_shm *geometry;
	unsigned long meta;
	int ret;

	if (!m)
		return ERR_PTR(-ENOMEM);
	geometry = &m->geometry;
	ret = snapbak_layout_compute(geometry, origin_size, block_shift, nr_slots, flags);
	if (ret)
		goto fail;

	meta = geometry->slots_off >> PAGE_SHIFT;
	m->nr_pages = geometry->map_size >> PAGE_SHIFT;
	m->pages = kvcalloc(m->nr_pages, sizeof(*m->pages), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	ret = -ENOMEM;
	if (!m->pages)
		goto fail;
	ret = alloc_pages_for(m->pages, meta, 0);
	if (!ret)
		ret = alloc_pages_for(m->pages + meta, m->nr_pages - meta,
				      min_t(u32, block_shift - PAGE_SHIFT, MAX_PIECE_ORDER));
	if (ret)
		goto fail;
	ret = -ENOMEM;
	m->header = vmap(m->pages, meta, VM_MAP, PAGE_KERNEL);
	if (!m->header)
		goto fail;
	m->bitmap = (u64 *)((u8 *)m->header + geometry->bitmap_off);

	geometry->magic = SNAPBAK_MAGIC;
	geometry->abi_version = SNAPBAK_ABI_VERSION;
	geometry->driver = SNAPBAK_DRIVER_KERNEL;
	memcpy(m->header, geometry, sizeof(*geometry));
	return m;

fail:
	snapbak_memory_free(m);
	return ERR_PTR(ret);
}

/**
 * snapbak_memory_rings() - the driver's views of the rings.
 * @m: the memory.
 * @events: the producer's.
 * @returned: the consumer's.
 *
 * Context: any.
 */
void snapbak_memory_rings(struct snapbak_memory *m, struct snapbak_ring *events,
			  struct snapbak_ring *returned)
{
	struct snapbak_shm *header = m->header;

	*events = (struct snapbak_ring){
		.head = &header->event_head.value,
		.tail = &header->event_tail.value,
		.entries = (u8 *)header + m->geometry.event_off,
		.nr = m->geometry.nr_events,
	};
	*returned = (struct snapbak_ring){
		.head = &header->free_head.value,
		.tail = &header->free_tail.value,
		.entries = (u8 *)header + m->geometry.free_off,
		.nr = m->geometry.nr_free,
	};
}

/**
 * snapbak_memory_map() - map all of it into a process.
 * @m: the memory.
 * @vma: a shared mapping of exactly its size, at offset 0.
 *
 * Children of the process do not inherit the mapping: it would keep the
 * descriptor, and so the session, alive.
 *
 * Context: process, with the mmap lock.
 * Return: 0 or a negative errno.
 */
int snapbak_memory_map(struct snapbak_memory *m, struct vm_area_struct *vma)
{
	if (vma->vm_pgoff || vma_pages(vma) != m->nr_pages || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;
	snapbak_compat_vm_flags_set(vma, VM_DONTCOPY | VM_DONTEXPAND | VM_DONTDUMP);
	return vm_map_pages(vma, m->pages, m->nr_pages);
}

/**
 * snapbak_memory_add_slot() - make a slot the memory of a read.
 * @m: the memory.
 * @bio: the read, with room for every page of a slot.
 * @slot: which.
 * @bytes: how much of it, a multiple of a sector.
 *
 * Context: any; does not sleep.
 * Return: 0 or -EIO.
 */
int snapbak_memory_add_slot(struct snapbak_memory *m, struct bio *bio, u32 slot, u32 bytes)
{
	u64 at = m->geometry.slots_off + ((u64)slot << m->geometry.block_shift);
	struct page **page = &m->pages[at >> PAGE_SHIFT];

	while (bytes) {
		unsigned int n = min_t(u32, bytes, PAGE_SIZE);

		if (bio_add_page(bio, *page, n, 0) != n)
			return -EIO;
		page++;
		bytes -= n;
	}
	return 0;
}
