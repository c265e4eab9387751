//! Weft on real kernels: virtual hosts, real daemons, real packets.
