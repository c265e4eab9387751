/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/* The outer headers: room for them, and what is in them. */
#ifndef WEFT_ENCAPSULATE_H
#define WEFT_ENCAPSULATE_H

#include "tables.h"
#include "frame.h"

/* How room is made in front of an inner Ethernet header. The kernel notes where the inner headers are, so that
 * a frame that stands for several (GSO) is cut right, by the link or before it; FIXED_GSO: into the pieces that
 * the sender wanted. */
#define GROWING                                                                                      \
	(BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_ENCAP_L4_UDP | BPF_F_ADJ_ROOM_ENCAP_L2(ETHER) |   \
	 BPF_F_ADJ_ROOM_ENCAP_L2_ETH)

/*
 * What all packets of a flow have in common: 32 bits, of which the upper ones are the better mixed, since
 * multiplication carries upwards. The kernel's own hash is taken where it is known already; to have it computed
 * costs as much as all table look-ups of a frame together.
 */
static __always_inline __u32 mixed(struct __sk_buff *skb, __u64 addresses, __u32 ports)
{
	const __u64 odd = 0x9e3779b97f4a7c15; /* 2^64 divided by the golden ratio */
	__u32 known = skb->hash;
	__u64 mix;

	if (known)
		return known;
	mix = (addresses ^ ports) * odd;
	return (mix ^ mix >> 32) * odd >> 32;
}

static __always_inline __u32 flow_of_v4(struct __sk_buff *skb, struct frame frame)
{
	void *data = frame.data;
	__u32 protocol = AT8(data, 23), ports = 0;

	/* A packet's fragments are one flow, and only the first has ports. */
	if ((protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP || protocol == PROTOCOL_SCTP) &&
	    !(AT16(data, 20) & be16(0x3fff)) && AT8(data, 14) == 0x45 && HAS(frame, ETHER + IPV4 + 4))
		ports = AT32(data, 34);
	return mixed(skb, AT64(data, 26), ports);
}

static __always_inline __u32 flow_of_v6(struct __sk_buff *skb, struct frame frame)
{
	void *data = frame.data;
	__u32 ports = 0;

	if (AT8(data, 20) != PROTOCOL_ICMPV6 && HAS(frame, ETHER + IPV6 + 4))
		ports = AT32(data, 54);
	return mixed(skb, AT64(data, 22) + AT64(data, 30) + AT64(data, 38) * 3 + AT64(data, 46) * 5, ports);
}

/* Octets of one piece of a frame that the kernel will cut into pieces (GSO); 0: not known. */
static __always_inline __u32 piece_of(struct __sk_buff *skb, struct frame frame)
{
	void *transport;
	__u64 headers;
	__u32 protocol;

	if (!HAS(frame, ETHER + IPV4))
		return 0;
	if (AT16(frame.data, 12) == be16(ETHERTYPE_IPV4)) {
		protocol = AT8(frame.data, 23);
		headers = ETHER + (AT8(frame.data, 14) & 15) * 4;
	} else {
		protocol = AT8(frame.data, 20);
		headers = ETHER + IPV6;
	}
	if (protocol == PROTOCOL_UDP)
		return headers + UDP + skb->gso_size;
	if (protocol != PROTOCOL_TCP)
		return 0;
	/* The verifier follows one pointer better than two sums. */
	transport = frame.data + headers;
	if (transport + 13 > frame.end)
		return 0;
	return headers + (AT8(transport, 12) >> 4) * 4 + skb->gso_size;
}

/* Whether a frame that is too long as a whole will be cut into pieces that are not. */
__cold_path int fits_in_pieces(struct __sk_buff *skb, const struct weft_vtep *vtep)
{
	__u32 piece;

	if (!skb->gso_size || skb->len + vtep->header_length > 65535)
		return 0;
	piece = piece_of(skb, frame_of(skb));
	return piece && piece + vtep->header_length <= vtep->mtu;
}

/* The frame's first 14 octets stay in front when room is made. They are the inner header; what will be the outer
 * one is written by the kernel. */
static __always_inline void put_inner_ethernet(void *data, const __u32 room)
{
	__u64 first = AT64(data, 0), last = AT64(data, 6);

	AT64(data, room) = first;
	AT64(data, room + 6) = last;
}

/* length: of the outer IP packet. In all that follows, octets that are filled in are 0 in the template. */
static __always_inline void put_v4(void *data, const void *header, __u32 vni, __u32 port, __u32 ecn,
				   __u32 length)
{
	__u32 sum = (__u16)~AT16(header, 10) + be16(length) + (ecn << 8);

	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	AT64(data, 14) = AT64(header, 0) | ecn << 8 | (__u32)be16(length) << 16;
	AT64(data, 22) = AT64(header, 8);
	AT16(data, 24) = ~sum;
	AT64(data, 30) = AT64(header, 16) | (__u64)be16(port) << 32;
	AT64(data, 38) = AT64(header, 24) | be16(length - IPV4);
	AT32(data, 46) = be32(vni << 8);
}

/* The UDP checksum is 0, as RFC 7348 and RFC 6935 let it be. */
static __always_inline void put_v6(void *data, const void *header, __u32 vni, __u32 port, __u32 ecn,
				   __u32 length)
{
	AT64(data, 14) = AT64(header, 0) | ecn << 12 | (__u64)be16(length - IPV6) << 32;
	AT64(data, 22) = AT64(header, 8);
	AT64(data, 30) = AT64(header, 16);
	AT64(data, 38) = AT64(header, 24);
	AT64(data, 46) = AT64(header, 32);
	AT64(data, 54) = AT64(header, 40) | be16(port) | (__u64)be16(length - IPV6) << 32;
	AT64(data, 62) = AT64(header, 48) | (__u64)be32(vni << 8) << 32;
}

/*
 * Pushes the outer headers. The verdict if that fails: TC_ACT_UNSPEC as long as nothing was changed (the kernel
 * makes no room in front of a frame that it takes for encapsulated already, or of GSO that it cannot cut behind
 * an outer header), else that of a drop. 0: done.
 */
static __always_inline int encapsulate(struct __sk_buff *skb, const struct weft_vtep *vtep, __u32 vni,
				       __u32 port, __u32 ecn, __u32 length)
{
	const __u32 v4 = vtep->header_length == ROOM_V4 - ETHER;
	struct frame frame;

	if (likely(v4)) {
		if (bpf_skb_adjust_room(skb, ROOM_V4, BPF_ADJ_ROOM_MAC,
					GROWING | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4))
			return TC_ACT_UNSPEC;
		frame = frame_of(skb);
		if (likely(HAS(frame, ROOM_V4 + ETHER) && !room_lost)) {
			put_inner_ethernet(frame.data, ROOM_V4);
			put_v4(frame.data, vtep->header, vni, port, ecn, length);
			return 0;
		}
	} else {
		if (vtep->header_length != ROOM_V6 - ETHER ||
		    bpf_skb_adjust_room(skb, ROOM_V6, BPF_ADJ_ROOM_MAC,
					GROWING | BPF_F_ADJ_ROOM_ENCAP_L3_IPV6))
			return TC_ACT_UNSPEC;
		frame = frame_of(skb);
		if (likely(HAS(frame, ROOM_V6 + ETHER) && !room_lost)) {
			put_inner_ethernet(frame.data, ROOM_V6);
			put_v6(frame.data, vtep->header, vni, port, ecn, length);
			return 0;
		}
	}
	return drop(skb, vni, skb->ifindex, WEFT_DROP_NOT_WRITABLE);
}

#endif
