/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * The part of the kernel's interface that the programs use (linux/bpf.h), so that building them takes a
 * compiler and nothing else, and gives the same object wherever it is done.
 *
 * All helpers are in kernel 5.10, all flags but two in 5.13; see weft_inner_family.
 */
#ifndef WEFT_KERNEL_H
#define WEFT_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef int __s32;
typedef long long __s64;

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
/* What seldom happens stays out of the way of what always does. */
#define __cold_path static __attribute__((noinline))
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)
/* The compiler may not merge or split what is around it. */
#define barrier() asm volatile("" ::: "memory")

/* How the description of a map is written: in types, which the loader reads from BTF. */
#define __uint(name, value) int (*name)[value]
#define __type(name, value) typeof(value) *name

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define be16(x) ((__u16)__builtin_bswap16(x))
#define be32(x) ((__u32)__builtin_bswap32(x))
#else
#error "loads of several fields at once are written for little endian"
#endif

/* The context of a program. What is left out lies behind. */
struct __sk_buff {
	__u32 len;
	__u32 pkt_type;
	__u32 mark;
	__u32 queue_mapping;
	__u32 protocol;
	__u32 vlan_present;
	__u32 vlan_tci;
	__u32 vlan_proto;
	__u32 priority;
	__u32 ingress_ifindex;
	__u32 ifindex;
	__u32 tc_index;
	__u32 cb[5];
	__u32 hash;
	__u32 tc_classid;
	__u32 data;
	__u32 data_end;
	__u32 napi_id;
	__u32 family;
	__u32 remote_ip4;
	__u32 local_ip4;
	__u32 remote_ip6[4];
	__u32 local_ip6[4];
	__u32 remote_port;
	__u32 local_port;
	__u32 data_meta;
	__u64 flow_keys;
	__u64 tstamp;
	__u32 wire_len;
	__u32 gso_segs;
	__u64 sk;
	__u32 gso_size;
};

/* Where bpf_redirect_neigh sends to. */
struct bpf_redir_neigh {
	__u32 nh_family;
	__u32 nh[4];
};

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_HASH = 5,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LPM_TRIE = 11,
	BPF_F_NO_PREALLOC = 1,
	BPF_ANY = 0,
	PIN_BY_NAME = 1,
};

enum {
	TC_ACT_UNSPEC = -1, /* as if the program had not been there */
	TC_ACT_SHOT = 2,
};

enum {
	PACKET_HOST = 0,
	AF_INET = 2,
	AF_INET6 = 10,
};

enum {
	BPF_ADJ_ROOM_MAC = 1,
	BPF_F_ADJ_ROOM_FIXED_GSO = 1 << 0,
	BPF_F_ADJ_ROOM_ENCAP_L3_IPV4 = 1 << 1,
	BPF_F_ADJ_ROOM_ENCAP_L3_IPV6 = 1 << 2,
	BPF_F_ADJ_ROOM_ENCAP_L4_UDP = 1 << 4,
	BPF_F_ADJ_ROOM_NO_CSUM_RESET = 1 << 5,
	BPF_F_ADJ_ROOM_ENCAP_L2_ETH = 1 << 6,
	BPF_F_ADJ_ROOM_DECAP_L3_IPV4 = 1 << 7, /* kernel 6.3 */
	BPF_F_ADJ_ROOM_DECAP_L3_IPV6 = 1 << 8, /* kernel 6.3 */
};
#define BPF_F_ADJ_ROOM_ENCAP_L2(length) ((__u64)(length) << 56)

enum {
	BPF_CSUM_LEVEL_DEC = 2,
};

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *value,
				   __u64 flags) = (void *)2;
static long (*bpf_redirect)(__u32 ifindex, __u64 flags) = (void *)23;
static __s64 (*bpf_csum_diff)(const void *from, __u32 from_size, const void *to, __u32 to_size,
			      __u32 seed) = (void *)28;
static long (*bpf_skb_change_type)(struct __sk_buff *skb, __u32 type) = (void *)32;
static __u32 (*bpf_get_hash_recalc)(struct __sk_buff *skb) = (void *)34;
static long (*bpf_skb_pull_data)(struct __sk_buff *skb, __u32 length) = (void *)39;
static long (*bpf_skb_adjust_room)(struct __sk_buff *skb, __s32 difference, __u32 mode,
				   __u64 flags) = (void *)50;
static long (*bpf_skb_ecn_set_ce)(struct __sk_buff *skb) = (void *)97;
static long (*bpf_csum_level)(struct __sk_buff *skb, __u64 level) = (void *)135;
static long (*bpf_redirect_neigh)(__u32 ifindex, const struct bpf_redir_neigh *to, int size,
				  __u64 flags) = (void *)152;
static long (*bpf_redirect_peer)(__u32 ifindex, __u64 flags) = (void *)155;

#endif
