//! Virtual hosts on one machine: network namespaces on a virtual underlay cable.
