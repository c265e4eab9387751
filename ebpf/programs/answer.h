/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * ARP and neighbour discovery from a container: what it says of itself must be so, and what it asks is answered
 * here, if it is known. What is not goes the bridge path, which knows no more but must see it.
 */
#ifndef WEFT_ANSWER_H
#define WEFT_ANSWER_H

#include "tables.h"
#include "frame.h"

enum {
	ARP = 28,
	ARP_REQUEST = 1,
	ARP_REPLY = 2,
};

enum {
	ROUTER_SOLICITATION = 133,
	ROUTER_ADVERTISEMENT = 134,
	NEIGHBOUR_SOLICITATION = 135,
	NEIGHBOUR_ADVERTISEMENT = 136,
	REDIRECT = 137,
	/* Octets of an ICMPv6 header and a target, and of the option that tells a MAC. */
	ND = 24,
	ND_MAC = 8,
	/* The types of that option, with its length in units of 8 octets. */
	ND_MAC_OF_SENDER = 1 << 8 | 1,
	ND_MAC_OF_TARGET = 2 << 8 | 1,
	ND_SOLICITED_OVERRIDE = 0x60000000,
};

/* The MAC that has the address in the endpoint's network; 0: not known. Nobody is told of itself. */
static __always_inline __u64 neighbour(const struct weft_endpoint *from, __u64 high, __u64 low)
{
	struct address_key key = { .vni = from->vni, .address = { high, low } };
	const struct weft_mac *mac = bpf_map_lookup_elem(&neighbours, &key.vni);

	if (!mac || !MACS_DIFFER(AT64(mac, 0), AT64(from, 8)))
		return 0;
	return AT64(mac, 0) & MAC_BITS;
}

static __always_inline void put_mac(void *data, __u64 mac)
{
	AT32(data, 0) = mac;
	AT16(data, 4) = mac >> 32;
}

/* The Ethernet header of an answer: back to the sender, from whom the question was about. */
static __always_inline void put_answer_ethernet(void *data, __u64 mac)
{
	put_mac(data, AT64(data, 6));
	put_mac(data + 6, mac);
}

/* ARP for IPv4 over Ethernet (RFC 826). */
__cold_path int arp(struct __sk_buff *skb, const struct weft_endpoint *from)
{
	struct frame frame = pulled(skb, ETHER + ARP);
	void *data = frame.data;
	__u32 sender, target;
	__u64 mac;

	if (!HAS(frame, ETHER + ARP) || AT32(data, 14) != be32(1 << 16 | ETHERTYPE_IPV4) ||
	    AT16(data, 18) != be16(6 << 8 | 4))
		return TC_ACT_UNSPEC;
	sender = AT32(data, 28);
	target = AT32(data, 38);
	if (sender && sender != AT32(from, 16)) {
		if (from->more)
			return TC_ACT_UNSPEC;
		return drop(skb, from->vni, skb->ifindex, WEFT_DROP_ARP_NOT_ITS_ADDRESS);
	}
	if (MACS_DIFFER(AT64(data, 22), AT64(from, 8)))
		return drop(skb, from->vni, skb->ifindex, WEFT_DROP_ARP_NOT_ITS_MAC);
	/* Without an address of its own it asks whether one is free (RFC 5227): everybody must hear that. */
	if (AT16(data, 20) != be16(ARP_REQUEST) || !sender || target == sender)
		return TC_ACT_UNSPEC;
	mac = neighbour(from, 0, mapped(target));
	if (!mac)
		return TC_ACT_UNSPEC;
	put_answer_ethernet(data, mac);
	AT16(data, 20) = be16(ARP_REPLY);
	put_mac(data + 32, AT64(data, 22));
	put_mac(data + 22, mac);
	AT32(data, 28) = target;
	AT32(data, 38) = sender;
	return bpf_redirect(skb->ifindex, 0);
}

/* Turns a solicitation into the advertisement that answers it (RFC 4861 section 4.4). */
static __always_inline int advertise(struct __sk_buff *skb, void *data, __u64 mac)
{
	__u64 high = AT64(data, 62), low = AT64(data, 70);
	__u32 sum;

	put_answer_ethernet(data, mac);
	AT32(data, 14) = be32(6U << 28);
	AT64(data, 38) = AT64(data, 22);
	AT64(data, 46) = AT64(data, 30);
	AT64(data, 22) = high;
	AT64(data, 30) = low;
	AT32(data, 54) = be32((__u32)NEIGHBOUR_ADVERTISEMENT << 24);
	AT32(data, 58) = be32(ND_SOLICITED_OVERRIDE);
	AT16(data, 78) = be16(ND_MAC_OF_TARGET);
	put_mac(data + 80, mac);
	/* Addresses and message lie one behind the other; length and protocol are added (RFC 8200 section 8.1). */
	sum = bpf_csum_diff(0, 0, data + 22, 32 + ND + ND_MAC, be16(ND + ND_MAC + PROTOCOL_ICMPV6));
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	AT16(data, 56) = ~sum;
	return bpf_redirect(skb->ifindex, 0);
}

/* Answered is what Linux sends: code 0, hop limit 255, and behind the target nothing but the asker's MAC. The
 * bridge path knows the others; who asks whether an address is free has no source and never comes here. */
static __always_inline int solicitation(struct __sk_buff *skb, const struct weft_endpoint *from,
					struct frame frame)
{
	void *data = frame.data;
	__u64 mac;

	if (!HAS(frame, ETHER + IPV6 + ND + ND_MAC) || AT16(data, 18) != be16(ND + ND_MAC) ||
	    AT8(data, 21) != 255 || AT8(data, 55) != 0 || AT16(data, 78) != be16(ND_MAC_OF_SENDER))
		return TC_ACT_UNSPEC;
	mac = neighbour(from, AT64(data, 62), AT64(data, 70));
	return mac ? advertise(skb, data, mac) : TC_ACT_UNSPEC;
}

/* Whether an address is the endpoint's first, or that of its MAC. */
static __always_inline int its_own(const struct weft_endpoint *from, __u64 high, __u64 low)
{
	return (high == AT64(from, 20) && low == AT64(from, 28)) ||
	       (high == AT64(from, 36) && low == AT64(from, 44));
}

/* ICMPv6. 0: an ordinary packet; else the verdict. */
__cold_path int neighbour_discovery(struct __sk_buff *skb, const struct weft_endpoint *from)
{
	const __u32 whole = ETHER + IPV6 + ND + ND_MAC;
	struct frame frame = frame_of(skb);
	void *data;
	__u32 type;

	if (!HAS(frame, whole))
		frame = pulled(skb, skb->len < whole ? skb->len : whole);
	data = frame.data;
	/* A header that promises more than there is means nothing to the bridge path's filter either. */
	if (!HAS(frame, ETHER + IPV6 + 4) || be16(AT16(data, 18)) + ETHER + IPV6 > skb->len)
		return TC_ACT_UNSPEC;
	type = AT8(data, 54);
	if (type < ROUTER_SOLICITATION || type > REDIRECT)
		return 0;
	if (type == ROUTER_ADVERTISEMENT)
		return drop(skb, from->vni, skb->ifindex, WEFT_DROP_ND_NOT_A_ROUTER);
	if (type == NEIGHBOUR_SOLICITATION)
		return solicitation(skb, from, frame);
	if (type == NEIGHBOUR_ADVERTISEMENT && HAS(frame, ETHER + IPV6 + ND) && !from->more &&
	    !its_own(from, AT64(data, 62), AT64(data, 70)))
		return drop(skb, from->vni, skb->ifindex, WEFT_DROP_ND_NOT_ITS_ADDRESS);
	return TC_ACT_UNSPEC;
}

#endif
