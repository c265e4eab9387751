//! The resolver process: sockets around the name table, and forwarding upstream.
