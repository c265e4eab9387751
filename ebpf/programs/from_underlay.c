/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */
/*
 * At the ingress of a link of the underlay: a VXLAN frame for a container of this host loses its outer
 * headers and goes straight into the container. Everything else that reaches the host passes here too, so
 * what is not VXLAN is let go first.
 */
#include "tables.h"
#include "frame.h"

/* The one flag that is set: there is a VNI (RFC 7348 section 5). As it lies in memory, with the VNI cut out. */
#define VXLAN_FLAGS 0x08
#define VXLAN_BUT_VNI 0xff000000ffffffff

/* Fragment offset and "more fragments", and the protocol, of the four octets that begin with the former. */
#define FRAGMENT_AND_PROTOCOL (be32(0x3fff00ff))

/* What the inner header must be told of the outer one's congestion (RFC 6040 section 4.2). */
enum congestion {
	AGREED,
	TO_BE_MARKED,
	LOST,
	FOR_THE_BRIDGE, /* ECT(1) over ECT(0): no helper can write that */
};

static __always_inline enum congestion congestion(__u32 outer, __u32 inner)
{
	if (likely(outer == inner))
		return AGREED;
	if (outer == CE)
		return inner == NOT_ECT ? LOST : TO_BE_MARKED;
	return outer == ECT_1 && inner == ECT_0 ? FOR_THE_BRIDGE : AGREED;
}

/* How the room is taken back. Kernels before 6.3 refuse to change the family, and then the frame goes the
 * bridge path. */
static __always_inline __u64 shrinking(__u32 room, __u16 inner)
{
	__u64 flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;

	if (room == ROOM_V4 && inner == be16(ETHERTYPE_IPV6))
		flags |= BPF_F_ADJ_ROOM_DECAP_L3_IPV6;
	if (room == ROOM_V6 && inner == be16(ETHERTYPE_IPV4))
		flags |= BPF_F_ADJ_ROOM_DECAP_L3_IPV4;
	return flags;
}

/*
 * UDP for the VXLAN port of this node, from the source in the member key. What is taken out lies behind the outer
 * Ethernet header and ends with the inner one, which is as long; so that begins at room.
 */
static __always_inline int arrived(struct __sk_buff *skb, void *data, const __u32 room,
				   struct address_key *from, __u32 ecn)
{
	const struct weft_fdb *to;
	const struct weft_mac *gateway;
	struct fdb_key key = {};
	struct frame frame;
	/* The inner Ethernet header: the second part is the source MAC and the type. */
	__u64 first = AT64(data, room), last = AT64(data, room + 6);
	__u16 type = last >> 48;
	__u32 inner_ecn, protocol;
	enum congestion mark;

	if ((AT64(data, room - VXLAN) & VXLAN_BUT_VNI) != VXLAN_FLAGS)
		return TC_ACT_UNSPEC;
	if (type == be16(ETHERTYPE_IPV4)) {
		inner_ecn = AT8(data, room + ETHER + 1) & 3;
		protocol = AT8(data, room + ETHER + 9);
	} else if (type == be16(ETHERTYPE_IPV6)) {
		inner_ecn = AT8(data, room + ETHER + 1) >> 4 & 3;
		protocol = AT8(data, room + ETHER + 6);
	} else {
		return TC_ACT_UNSPEC;
	}
	/* A tag would stay on the frame; and of a frame for another host's MAC the kernel takes nothing. */
	if (unlikely(skb->vlan_present || skb->pkt_type != PACKET_HOST))
		return TC_ACT_UNSPEC;
	/* A frame that stands for several remains marked as one of a tunnel. That does not matter for TCP, but UDP
	 * would be cut as if the outer header were still there. */
	if (unlikely(skb->gso_size) && protocol != PROTOCOL_TCP)
		return TC_ACT_UNSPEC;

	key.vni = from->vni = be32(AT32(data, room - 4)) >> 8;
	key.mac = first & MAC_BITS;
	to = bpf_map_lookup_elem(&fdb, &key.vni);
	if (!to || !to->ifindex)
		return TC_ACT_UNSPEC;
	gateway = bpf_map_lookup_elem(&members, &from->vni);
	if (unlikely(!gateway))
		return drop(skb, key.vni, 0, WEFT_DROP_NOT_A_MEMBER);
	if (unlikely(!MACS_DIFFER(last, AT64(gateway, 0))))
		return drop(skb, key.vni, 0, WEFT_DROP_ANOTHER_HOSTS_GATEWAY);
	mark = congestion(ecn, inner_ecn);
	if (unlikely(mark == LOST))
		return drop(skb, key.vni, 0, WEFT_DROP_CONGESTION_LOST);
	if (unlikely(mark == FOR_THE_BRIDGE))
		return TC_ACT_UNSPEC;

	if (bpf_skb_adjust_room(skb, -(__s32)room, BPF_ADJ_ROOM_MAC, shrinking(room, type)))
		return TC_ACT_UNSPEC;
	/* Of the checksums that the link found right, the outer one is gone, also where it was 0. */
	bpf_csum_level(skb, BPF_CSUM_LEVEL_DEC);
	if (unlikely(mark == TO_BE_MARKED))
		bpf_skb_ecn_set_ce(skb);
	frame = frame_of(skb);
	if (unlikely(!HAS(frame, ETHER) || room_lost))
		return drop(skb, key.vni, 0, WEFT_DROP_NOT_WRITABLE);
	/* What remained in front is the outer Ethernet header. */
	AT64(frame.data, 0) = first;
	AT64(frame.data, 6) = last;
	count_received(to->slot, skb->len);
	return bpf_redirect_peer(to->ifindex, 0);
}

/* The shortest VXLAN that is looked at: with an inner IPv4 header. */
#define WHOLE(room) ((room) + ETHER + IPV4)

/* No options, no fragment, without a checksum, neither cut off nor padded. The header's own checksum says nothing
 * that matters: addresses and port are compared. */
static __always_inline int over_v4(struct __sk_buff *skb, struct frame frame)
{
	struct address_key from = {};
	const struct weft_node *here;
	void *data = frame.data;
	__u32 zero = 0;

	if (AT8(data, 14) != 0x45 || (AT32(data, 20) & FRAGMENT_AND_PROTOCOL) != be32(PROTOCOL_UDP))
		return TC_ACT_UNSPEC;
	here = bpf_map_lookup_elem(&node, &zero);
	if (unlikely(!here) || AT16(data, 36) != AT16(here, 16))
		return TC_ACT_UNSPEC;
	if (AT64(here, 8) != mapped(AT32(data, 30)) || AT64(here, 0))
		return TC_ACT_UNSPEC;
	if (AT32(data, 38) != be16(skb->len - ETHER - IPV4) || AT16(data, 16) != be16(skb->len - ETHER))
		return TC_ACT_UNSPEC;
	if (unlikely(!HAS(frame, WHOLE(ROOM_V4)))) {
		frame = pulled(skb, WHOLE(ROOM_V4));
		data = frame.data;
		if (!HAS(frame, WHOLE(ROOM_V4)))
			return TC_ACT_UNSPEC;
	}
	from.address[1] = mapped(AT32(data, 26));
	return arrived(skb, data, ROOM_V4, &from, AT8(data, 15) & 3);
}

/* The same; there, options and fragments would be other headers. */
static __always_inline int over_v6(struct __sk_buff *skb, struct frame frame)
{
	struct address_key from = {};
	const struct weft_node *here;
	void *data = frame.data;
	__u32 zero = 0;

	if (AT8(data, 20) != PROTOCOL_UDP || (AT8(data, 14) & 0xf0) != 0x60)
		return TC_ACT_UNSPEC;
	if (unlikely(!HAS(frame, WHOLE(ROOM_V6)))) {
		frame = pulled(skb, WHOLE(ROOM_V6));
		data = frame.data;
		if (!HAS(frame, WHOLE(ROOM_V6)))
			return TC_ACT_UNSPEC;
	}
	here = bpf_map_lookup_elem(&node, &zero);
	if (unlikely(!here) || AT16(data, 56) != AT16(here, 16))
		return TC_ACT_UNSPEC;
	if (AT64(here, 0) != AT64(data, 38) || AT64(here, 8) != AT64(data, 46))
		return TC_ACT_UNSPEC;
	if (AT32(data, 58) != be16(skb->len - ETHER - IPV6) || AT16(data, 18) != be16(skb->len - ETHER - IPV6))
		return TC_ACT_UNSPEC;
	from.address[0] = AT64(data, 22);
	from.address[1] = AT64(data, 30);
	return arrived(skb, data, ROOM_V6, &from, AT8(data, 15) >> 4 & 3);
}

SEC("classifier")
int from_underlay(struct __sk_buff *skb)
{
	struct frame frame = frame_of(skb);

	if (unlikely(!HAS(frame, ETHER + IPV4 + UDP))) {
		frame = pulled(skb, ETHER + IPV4 + UDP);
		if (!HAS(frame, ETHER + IPV4 + UDP))
			return TC_ACT_UNSPEC;
	}
	if (likely(AT16(frame.data, 12) == be16(ETHERTYPE_IPV4)))
		return over_v4(skb, frame);
	if (likely(AT16(frame.data, 12) == be16(ETHERTYPE_IPV6)))
		return over_v6(skb, frame);
	return TC_ACT_UNSPEC;
}
