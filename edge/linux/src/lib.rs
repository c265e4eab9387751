//! The only room with a netlink socket: observes the kernel and applies steps.
