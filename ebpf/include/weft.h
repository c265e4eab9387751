/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * What the programs and the daemon both know: tables, their keys and values, and the reasons for drops.
 *
 * The daemon reads this file too, when it is built: every LAYOUT and CONSTANT line below becomes a
 * constant of the same name there, and is checked here by the compiler. So there is one place to change,
 * and no way for the two sides to disagree.
 *
 * Addresses are 16 octets in network order; an IPv4 address is mapped into IPv6 (RFC 4291 section 2.5.5.2),
 * so that both families are one path. Numbers are in the host's order unless a comment says otherwise.
 *
 * Who includes it brings __u8, __u32 and __u64.
 */
#ifndef WEFT_H
#define WEFT_H

#define CONSTANT(name, value) enum { name = value };
#define LAYOUT_SIZE(type, size) _Static_assert(sizeof(struct type) == size, #type);
#define LAYOUT(type, field, offset, size)                                                        \
	_Static_assert(__builtin_offsetof(struct type, field) == offset, #type "." #field);                \
	_Static_assert(sizeof(((struct type *)0)->field) == size, #type "." #field);

/* Changes whenever a table's key or value changes its meaning: tables of another version are never
 * used, but filled anew beside the old ones. */
CONSTANT(WEFT_TABLES_VERSION, 1)

/* Table "node", one entry (number 0): what the programs know of this node. */
struct weft_node {
	__u8 address[16]; /* the VTEP's own address */
	__u8 port[2];     /* UDP port of VXLAN, network order */
	__u8 zero[2];
};
LAYOUT(weft_node, address, 0, 16)
LAYOUT(weft_node, port, 16, 2)
LAYOUT_SIZE(weft_node, 20)

/* Table "endpoints": the host's end of a veth, by interface number (__u32): whose it is, and what may
 * come from it. */
struct weft_endpoint {
	__u32 vni;
	__u32 slot;          /* its place in "counters" */
	__u8 mac[6];
	__u8 more;           /* 1: look into "granted" for other sources */
	__u8 zero;
	__u8 v4[4];          /* 0.0.0.0: none */
	__u8 v6[16];         /* ::: none */
	__u8 link_local[16]; /* of its MAC (RFC 4291 appendix A) */
};
LAYOUT(weft_endpoint, vni, 0, 4)
LAYOUT(weft_endpoint, slot, 4, 4)
LAYOUT(weft_endpoint, mac, 8, 6)
LAYOUT(weft_endpoint, more, 14, 1)
LAYOUT(weft_endpoint, v4, 16, 4)
LAYOUT(weft_endpoint, v6, 20, 16)
LAYOUT(weft_endpoint, link_local, 36, 16)
LAYOUT_SIZE(weft_endpoint, 52)

/* Table "granted" (longest prefix): what else may come from it. The value is a
 * __u32: 4 or 6, the version of IP that it is about. */
struct weft_granted_key {
	__u32 prefix_length; /* 32, for the interface, and that of the mapped prefix */
	__u32 ifindex;
	__u8 address[16];
};
LAYOUT(weft_granted_key, prefix_length, 0, 4)
LAYOUT(weft_granted_key, ifindex, 4, 4)
LAYOUT(weft_granted_key, address, 8, 16)
LAYOUT_SIZE(weft_granted_key, 24)

/* Table "fdb": where a MAC is. */
struct weft_fdb_key {
	__u32 vni;
	__u8 mac[6];
	__u8 zero[2];
};
LAYOUT(weft_fdb_key, vni, 0, 4)
LAYOUT(weft_fdb_key, mac, 4, 6)
LAYOUT_SIZE(weft_fdb_key, 12)

struct weft_fdb {
	__u32 ifindex;  /* local: the host's end of its veth; 0: remote */
	__u32 slot;     /* local: its place in "counters" */
	__u8 vtep[16];  /* remote: the VTEP */
};
LAYOUT(weft_fdb, ifindex, 0, 4)
LAYOUT(weft_fdb, slot, 4, 4)
LAYOUT(weft_fdb, vtep, 8, 16)
LAYOUT_SIZE(weft_fdb, 24)

/* Keys of tables "members" and "neighbours". */
struct weft_address_key {
	__u32 vni;
	__u8 address[16];
};
LAYOUT(weft_address_key, vni, 0, 4)
LAYOUT(weft_address_key, address, 4, 16)
LAYOUT_SIZE(weft_address_key, 20)

/* Values of tables "members" (the gateway's MAC of the network) and "neighbours" (who has the address). */
struct weft_mac {
	__u8 mac[6];
	__u8 zero[2];
};
LAYOUT(weft_mac, mac, 0, 6)
LAYOUT_SIZE(weft_mac, 8)

/* Table "vteps", by address (16 octets): how frames to a remote VTEP leave. */
struct weft_vtep {
	__u32 ifindex;       /* of the link they leave by */
	__u32 mtu;           /* of the outer packet; at most 65,535 */
	__u32 family;        /* AF_INET, AF_INET6: of the next hop; with it, a struct bpf_redir_neigh */
	__u8 next_hop[16];   /* of IPv4 the first four octets */
	__u8 header_length;  /* 36: IPv4, UDP, VXLAN; 56: IPv6, UDP, VXLAN */
	__u8 zero[3];
	/* The outer headers, ready but for lengths, source port, ECN and VNI; of IPv4 with the checksum
	 * of a header whose length and ECN are 0. */
	__u8 header[56];
};
LAYOUT(weft_vtep, ifindex, 0, 4)
LAYOUT(weft_vtep, mtu, 4, 4)
LAYOUT(weft_vtep, family, 8, 4)
LAYOUT(weft_vtep, next_hop, 12, 16)
LAYOUT(weft_vtep, header_length, 28, 1)
LAYOUT(weft_vtep, header, 32, 56)
LAYOUT_SIZE(weft_vtep, 88)

/* Table "counters", per CPU, by slot: what went the shortcut. */
struct weft_counters {
	__u64 sent_packets;
	__u64 sent_bytes;
	__u64 received_packets;
	__u64 received_bytes;
};
LAYOUT(weft_counters, sent_packets, 0, 8)
LAYOUT(weft_counters, sent_bytes, 8, 8)
LAYOUT(weft_counters, received_packets, 16, 8)
LAYOUT(weft_counters, received_bytes, 24, 8)
LAYOUT_SIZE(weft_counters, 32)

/* Table "drops", per CPU: what was dropped, where and why. */
struct weft_drop_key {
	__u32 vni;
	__u32 ifindex; /* of the host's end of a veth; 0: from the underlay */
	__u32 reason;
};
LAYOUT(weft_drop_key, vni, 0, 4)
LAYOUT(weft_drop_key, ifindex, 4, 4)
LAYOUT(weft_drop_key, reason, 8, 4)
LAYOUT_SIZE(weft_drop_key, 12)

struct weft_count {
	__u64 packets;
	__u64 bytes;
};
LAYOUT(weft_count, packets, 0, 8)
LAYOUT(weft_count, bytes, 8, 8)
LAYOUT_SIZE(weft_count, 16)

/* Why a frame was dropped: the numbers of DropReason. */
CONSTANT(WEFT_DROP_NOT_ITS_MAC, 1)
CONSTANT(WEFT_DROP_NOT_ITS_ADDRESS, 2)
CONSTANT(WEFT_DROP_ARP_NOT_ITS_ADDRESS, 3)
CONSTANT(WEFT_DROP_ARP_NOT_ITS_MAC, 4)
CONSTANT(WEFT_DROP_ND_NOT_A_ROUTER, 5)
CONSTANT(WEFT_DROP_ND_NOT_ITS_ADDRESS, 6)
CONSTANT(WEFT_DROP_NOT_A_MEMBER, 7)
CONSTANT(WEFT_DROP_ANOTHER_HOSTS_GATEWAY, 8)
CONSTANT(WEFT_DROP_CONGESTION_LOST, 9)
CONSTANT(WEFT_DROP_NOT_WRITABLE, 17)

/* How much the tables hold. Beyond, an endpoint is reached by the bridge path. */
CONSTANT(WEFT_MAX_ENDPOINTS, 4096)
CONSTANT(WEFT_MAX_GRANTED, 16384)
CONSTANT(WEFT_MAX_FDB, 131072)
CONSTANT(WEFT_MAX_MEMBERS, 65536)
CONSTANT(WEFT_MAX_NEIGHBOURS, 262144)
CONSTANT(WEFT_MAX_VTEPS, 4096)
CONSTANT(WEFT_MAX_DROPS, 16384)

#endif
