/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* Where things are in a frame. */
#ifndef WEFT_FRAME_H
#define WEFT_FRAME_H

#include "kernel.h"

enum {
	ETHERTYPE_IPV4 = 0x0800,
	ETHERTYPE_ARP = 0x0806,
	ETHERTYPE_VLAN = 0x8100,
	ETHERTYPE_QINQ = 0x88a8,
	ETHERTYPE_IPV6 = 0x86dd,
};

enum {
	PROTOCOL_TCP = 6,
	PROTOCOL_UDP = 17,
	PROTOCOL_ICMPV6 = 58,
	PROTOCOL_SCTP = 132,
};

enum {
	ETHER = 14,
	IPV4 = 20,
	IPV6 = 40,
	UDP = 8,
	VXLAN = 8,
	/* What is pushed and stripped: the outer headers behind the Ethernet header of the frame, and
	 * the inner Ethernet header. */
	ROOM_V4 = IPV4 + UDP + VXLAN + ETHER,
	ROOM_V6 = IPV6 + UDP + VXLAN + ETHER,
};

enum {
	NOT_ECT = 0,
	ECT_1 = 1,
	ECT_0 = 2,
	CE = 3,
};

/* Loads and stores by the widest word that fits. The kernel allows it at any offset where the processor does;
 * by the rules of C the compiler would do it by octets. */
#define AT8(base, offset) (*(__u8 *)((void *)(base) + (offset)))
#define AT16(base, offset) (*(__u16 *)((void *)(base) + (offset)))
#define AT32(base, offset) (*(__u32 *)((void *)(base) + (offset)))
#define AT64(base, offset) (*(__u64 *)((void *)(base) + (offset)))

/* A MAC is loaded with the two octets behind it, which are the upper ones. */
#define MAC_BITS 0xffffffffffffULL
#define MACS_DIFFER(one, other) (((one) ^ (other)) << 16)

/* What a program sees of a frame: so much of it as is in one piece. */
struct frame {
	void *data;
	void *end;
};

static __always_inline struct frame frame_of(struct __sk_buff *skb)
{
	return (struct frame){ (void *)(long)skb->data, (void *)(long)skb->data_end };
}

/* Brings the first octets of a frame into one piece, if it has so many. */
static __always_inline struct frame pulled(struct __sk_buff *skb, __u32 octets)
{
	if (skb->len >= octets)
		bpf_skb_pull_data(skb, octets);
	return frame_of(skb);
}

#define HAS(frame, octets) ((frame).data + (octets) <= (frame).end)

#endif
