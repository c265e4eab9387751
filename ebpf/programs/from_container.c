/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * At the ingress of the host's end of an endpoint's veth: what the container sends. Frames for a container of
 * this host go straight into it; frames for another host's get their outer headers here and leave.
 *
 * A container sends only under the MAC and the addresses it was given. The chain of the bridge path says the same;
 * nothing is dropped here that it would let pass.
 */
#include "tables.h"
#include "frame.h"
#include "answer.h"
#include "encapsulate.h"

static __always_inline int to_this_host(struct __sk_buff *skb, const struct weft_endpoint *from,
					const struct weft_fdb *to)
{
	/* A switch sends nothing back to where it came from. */
	if (unlikely(to->ifindex == skb->ifindex))
		return TC_ACT_UNSPEC;
	/* The MAC is not that of the host's end, so the kernel takes the frame for somebody else's. */
	bpf_skb_change_type(skb, PACKET_HOST);
	count_sent(from->slot, skb->len);
	count_received(to->slot, skb->len);
	return bpf_redirect_peer(to->ifindex, 0);
}

static __always_inline int to_other_host(struct __sk_buff *skb, const struct weft_endpoint *from,
					 const struct weft_fdb *to, __u32 ecn, __u32 flow)
{
	const struct weft_vtep *vtep = bpf_map_lookup_elem(&vteps, to->vtep);
	__u32 length = skb->len;
	int verdict;

	if (unlikely(!vtep))
		return TC_ACT_UNSPEC;
	length += vtep->header_length;
	/* The bridge path tells the sender that it is too big. */
	if (unlikely(length > vtep->mtu) && !fits_in_pieces(skb, vtep))
		return TC_ACT_UNSPEC;
	/* The dynamic ports (RFC 7348 section 5), by the upper bits. */
	verdict = encapsulate(skb, vtep, from->vni, 49152 | flow >> 18, ecn, length);
	if (unlikely(verdict))
		return verdict;
	count_sent(from->slot, length - vtep->header_length);
	/* The next hop's MAC is the kernel's business: it asks for it, and follows it. */
	return bpf_redirect_neigh(vtep->ifindex, (const void *)&vtep->family, sizeof(struct bpf_redir_neigh), 0);
}

/* first: the destination MAC, and two octets more. */
static __always_inline int forward(struct __sk_buff *skb, const struct weft_endpoint *from, __u64 first,
				   __u32 ecn, __u32 flow)
{
	struct fdb_key key = { .vni = from->vni, .mac = first & MAC_BITS };
	const struct weft_fdb *to = bpf_map_lookup_elem(&fdb, &key.vni);

	/* The gateway, groups, and who is not known. */
	if (unlikely(!to))
		return TC_ACT_UNSPEC;
	if (to->ifindex)
		return to_this_host(skb, from, to);
	return to_other_host(skb, from, to, ecn, flow);
}

/* Whether it may send from an address that is not its first. A prefix of IPv6 that is as wide as to hold the
 * mapped addresses grants nothing of IPv4. */
__cold_path int granted_to(struct __sk_buff *skb, const struct weft_endpoint *from, __u64 high, __u64 low,
			   __u32 version)
{
	struct weft_granted_key key = { .prefix_length = 160, .ifindex = skb->ifindex };
	__u32 *granted_version;

	if (!from->more)
		return 0;
	__builtin_memcpy(key.address, &high, 8);
	__builtin_memcpy(key.address + 8, &low, 8);
	granted_version = bpf_map_lookup_elem(&granted, &key);
	return granted_version && *granted_version == version;
}

/* Whether an IPv6 source that is not its first address may be. 0: it may; else the verdict. */
__cold_path int other_source(struct __sk_buff *skb, const struct weft_endpoint *from, __u64 high, __u64 low)
{
	/* An interface that makes sure that its address is free (RFC 4862 section 5.4.2). */
	if (!(high | low))
		return TC_ACT_UNSPEC;
	if (its_own(from, high, low) || granted_to(skb, from, high, low, 6))
		return 0;
	/* A mapped IPv4 address as a source of IPv6: the table cannot tell it from the IPv4 one. */
	if (from->more && !high && (__u32)low == 0xffff0000)
		return TC_ACT_UNSPEC;
	return drop(skb, from->vni, skb->ifindex, WEFT_DROP_NOT_ITS_ADDRESS);
}

static __always_inline int ipv4(struct __sk_buff *skb, const struct weft_endpoint *from, struct frame frame)
{
	void *data = frame.data;
	__u32 source = AT32(data, 26), ecn = AT8(data, 15) & 3, flow;
	__u64 first = AT64(data, 0);

	/* Version 4, and a header of 20 octets or more. */
	if (unlikely((__u8)(AT8(data, 14) - 0x45) > 10))
		return TC_ACT_UNSPEC;
	flow = flow_of_v4(skb, frame);
	if (unlikely(source != AT32(from, 16) || !source) && !granted_to(skb, from, 0, mapped(source), 4))
		return drop(skb, from->vni, skb->ifindex, WEFT_DROP_NOT_ITS_ADDRESS);
	return forward(skb, from, first, ecn, flow);
}

static __always_inline int ipv6(struct __sk_buff *skb, const struct weft_endpoint *from, struct frame frame)
{
	void *data = frame.data;
	__u64 high = AT64(data, 22), low = AT64(data, 30), first = AT64(data, 0);
	__u32 next = AT8(data, 20), ecn = AT8(data, 15) >> 4 & 3, flow;
	int verdict;

	if (unlikely((AT8(data, 14) & 0xf0) != 0x60))
		return TC_ACT_UNSPEC;
	flow = flow_of_v6(skb, frame);
	if (unlikely(high != AT64(from, 20) || low != AT64(from, 28) || !(high | low))) {
		verdict = other_source(skb, from, high, low);
		if (verdict)
			return verdict;
	}
	if (unlikely(next == PROTOCOL_ICMPV6)) {
		verdict = neighbour_discovery(skb, from);
		if (verdict)
			return verdict;
	} else if (unlikely(next != PROTOCOL_TCP && next != PROTOCOL_UDP && next != PROTOCOL_SCTP)) {
		/* What is behind other headers, and in fragments, only the bridge path looks for. */
		return TC_ACT_UNSPEC;
	}
	return forward(skb, from, first, ecn, flow);
}

SEC("classifier")
int from_container(struct __sk_buff *skb)
{
	struct frame frame = frame_of(skb);
	__u32 ifindex = skb->ifindex;
	const struct weft_endpoint *from = bpf_map_lookup_elem(&endpoints, &ifindex);
	__u64 last;
	__u16 type;

	if (unlikely(!from || skb->vlan_present))
		return TC_ACT_UNSPEC;
	if (unlikely(!HAS(frame, ETHER + IPV4))) {
		frame = pulled(skb, ETHER + IPV4);
		if (!HAS(frame, ETHER + IPV4))
			return TC_ACT_UNSPEC;
	}
	/* The source MAC, and the type. */
	last = AT64(frame.data, 6);
	type = last >> 48;
	if (unlikely(MACS_DIFFER(last, AT64(from, 8)))) {
		if (type == be16(ETHERTYPE_VLAN) || type == be16(ETHERTYPE_QINQ))
			return TC_ACT_UNSPEC;
		return drop(skb, from->vni, ifindex, WEFT_DROP_NOT_ITS_MAC);
	}
	if (likely(type == be16(ETHERTYPE_IPV4)))
		return ipv4(skb, from, frame);
	if (likely(type == be16(ETHERTYPE_IPV6))) {
		if (unlikely(!HAS(frame, ETHER + IPV6))) {
			frame = pulled(skb, ETHER + IPV6);
			if (!HAS(frame, ETHER + IPV6))
				return TC_ACT_UNSPEC;
		}
		return ipv6(skb, from, frame);
	}
	if (type == be16(ETHERTYPE_ARP))
		return arp(skb, from);
	return TC_ACT_UNSPEC;
}
