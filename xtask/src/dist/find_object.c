/* What gcc's unwinder asks of glibc (<dlfcn.h>, "struct dl_find_object"), and musl does not have: in which object a place of
   the program is, and where that object's table for unwinding is. A static program is one object. */
#define _GNU_SOURCE
#include <link.h>
#include <stddef.h>

struct found {
	unsigned long long flags;
	void *start, *end;
	struct link_map *map;
	void *eh_frame;
	unsigned long long reserved[7];
};

static int look(struct dl_phdr_info *info, size_t size, void *into)
{
	struct found *found = into;
	int inside = 0;
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		char *start = (char *)info->dlpi_addr + header->p_vaddr, *end = start + header->p_memsz;
		/* The place that is asked for comes in as `start`. */
		if (header->p_type == PT_LOAD && (char *)found->start >= start && (char *)found->start < end)
			inside = 1;
		if (header->p_type == PT_GNU_EH_FRAME)
			found->eh_frame = start;
	}
	return inside && found->eh_frame;
}

int _dl_find_object(void *place, struct found *result)
{
	struct found found = { .start = place };
	if (!dl_iterate_phdr(look, &found))
		return -1;
	found.end = (char *)place + 1;
	*result = found;
	return 0;
}
