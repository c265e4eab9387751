/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The tables, and what counts into them. */
#ifndef WEFT_TABLES_H
#define WEFT_TABLES_H

#include "kernel.h"
#include "../include/weft.h"

/* Every table is pinned under its name: it outlives the daemon, and both programs' next version finds it. */
#define TABLE(name, kind, entries, map_flags_, key_, value_) \
	struct {                                             \
		__uint(type, BPF_MAP_TYPE_##kind);           \
		__uint(max_entries, entries);                \
		__uint(map_flags, map_flags_);               \
		__uint(pinning, PIN_BY_NAME);                \
		__type(key, key_);                           \
		__type(value, value_);                       \
	} name SEC(".maps")

struct weft_address {
	__u8 octets[16];
};

/* Without preallocation: a table of this size would take its memory on every host, however few its
 * endpoints are. */
TABLE(node, ARRAY, 1, 0, __u32, struct weft_node);
TABLE(endpoints, HASH, WEFT_MAX_ENDPOINTS, BPF_F_NO_PREALLOC, __u32, struct weft_endpoint);
TABLE(granted, LPM_TRIE, WEFT_MAX_GRANTED, BPF_F_NO_PREALLOC, struct weft_granted_key, __u32);
TABLE(fdb, HASH, WEFT_MAX_FDB, BPF_F_NO_PREALLOC, struct weft_fdb_key, struct weft_fdb);
TABLE(members, HASH, WEFT_MAX_MEMBERS, BPF_F_NO_PREALLOC, struct weft_address_key, struct weft_mac);
TABLE(neighbours, HASH, WEFT_MAX_NEIGHBOURS, BPF_F_NO_PREALLOC, struct weft_address_key, struct weft_mac);
TABLE(vteps, HASH, WEFT_MAX_VTEPS, BPF_F_NO_PREALLOC, struct weft_address, struct weft_vtep);
TABLE(counters, PERCPU_ARRAY, WEFT_MAX_ENDPOINTS, 0, __u32, struct weft_counters);
TABLE(drops, PERCPU_HASH, WEFT_MAX_DROPS, BPF_F_NO_PREALLOC, struct weft_drop_key, struct weft_count);

/* Set by tests alone: as if a frame could not be written to after room had been made in it. */
const volatile __u32 room_lost = 0;

/* Keys on the stack lie so that everything behind the VNI can be stored by eights. */
struct fdb_key {
	__u32 before;
	__u32 vni;
	__u64 mac; /* its upper 16 bits are 0 */
};

struct address_key {
	__u32 before;
	__u32 vni;
	__u64 address[2];
};

/* Octets of a mapped IPv4 address, 8 to 15, as one number. */
static __always_inline __u64 mapped(__u32 v4)
{
	return (__u64)v4 << 32 | 0xffff0000;
}

static __always_inline void count_sent(__u32 slot, __u32 bytes)
{
	struct weft_counters *counters_ = bpf_map_lookup_elem(&counters, &slot);

	if (likely(counters_)) {
		counters_->sent_packets++;
		counters_->sent_bytes += bytes;
	}
}

static __always_inline void count_received(__u32 slot, __u32 bytes)
{
	struct weft_counters *counters_ = bpf_map_lookup_elem(&counters, &slot);

	if (likely(counters_)) {
		counters_->received_packets++;
		counters_->received_bytes += bytes;
	}
}

/* Drops the frame, and says so. ifindex 0: it came from the underlay. */
__cold_path int drop(struct __sk_buff *skb, __u32 vni, __u32 ifindex, __u32 reason)
{
	struct weft_drop_key key = { .vni = vni, .ifindex = ifindex, .reason = reason };
	struct weft_count first = { .packets = 1, .bytes = skb->len };
	struct weft_count *count = bpf_map_lookup_elem(&drops, &key);

	if (count) {
		count->packets++;
		count->bytes += skb->len;
	} else {
		bpf_map_update_elem(&drops, &key, &first, BPF_ANY);
	}
	return TC_ACT_SHOT;
}

#endif
