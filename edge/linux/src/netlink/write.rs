//! Writes netlink messages into one buffer (`netlink(7)`, `linux/netlink.h`).

use std::net::IpAddr;

const HEADER: usize = 16;
const NESTED: u16 = 0x8000;

/// A buffer of whole messages. Attributes go into the last one.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    buffer: Vec<u8>,
    start: usize,
}

impl Writer {
    /// Starts a message; the one before it is complete.
    pub(crate) fn begin(&mut self, kind: u16, flags: u16, seq: u32) {
        self.start = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 4]);
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(&flags.to_ne_bytes());
        self.buffer.extend_from_slice(&seq.to_ne_bytes());
        self.buffer.extend_from_slice(&[0; 4]);
        self.close();
    }

    /// Adds flags to the message at `start`.
    pub(crate) fn add_flags(&mut self, start: usize, flags: u16) {
        if let Some(place) = self.buffer.get_mut(start + 6..start + 8) {
            let old = u16::from_ne_bytes([place[0], place[1]]);
            place.copy_from_slice(&(old | flags).to_ne_bytes());
        }
    }

    /// Adds `first` to the number of every message, once they were numbered from 0.
    pub(crate) fn renumber(&mut self, first: u32) {
        let mut at = 0;
        while let Some(header) = self.buffer.get_mut(at..at + HEADER) {
            let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]);
            let seq = u32::from_ne_bytes([header[8], header[9], header[10], header[11]]);
            header[8..12].copy_from_slice(&seq.wrapping_add(first).to_ne_bytes());
            at += (length as usize).next_multiple_of(4).max(HEADER);
        }
    }

    /// Where the last message starts.
    pub(crate) const fn start(&self) -> usize {
        self.start
    }

    /// The family's own header after the netlink header.
    pub(crate) fn header(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        self.pad();
        self.close();
    }

    /// One attribute.
    pub(crate) fn attr(&mut self, kind: u16, value: &[u8]) {
        // Attributes longer than 64 KiB do not exist; what would be one is cut by the kernel's
        // own length check, not by us writing a wrong length.
        let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
        self.buffer.extend_from_slice(&length.to_ne_bytes());
        self.buffer.extend_from_slice(&kind.to_ne_bytes());
        self.buffer.extend_from_slice(value);
        self.pad();
        self.close();
    }

    pub(crate) fn u8(&mut self, kind: u16, value: u8) {
        self.attr(kind, &[value]);
    }

    pub(crate) fn u16_be(&mut self, kind: u16, value: u16) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub(crate) fn u32(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_ne_bytes());
    }

    pub(crate) fn u32_be(&mut self, kind: u16, value: u32) {
        self.attr(kind, &value.to_be_bytes());
    }

    pub(crate) fn u64_be(&mut self, kind: u16, value: u64) {
        self.attr(kind, &value.to_be_bytes());
    }

    /// A string with its final NUL.
    pub(crate) fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    pub(crate) fn ip(&mut self, kind: u16, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => self.attr(kind, &v4.octets()),
            IpAddr::V6(v6) => self.attr(kind, &v6.octets()),
        }
    }

    /// An attribute made of attributes.
    pub(crate) fn nest(&mut self, kind: u16, inside: impl FnOnce(&mut Self)) {
        let at = self.open_nest(kind);
        inside(self);
        self.close_nest(at);
    }

    /// Opens an attribute made of attributes; [`Self::close_nest`] closes it.
    pub(crate) fn open_nest(&mut self, kind: u16) -> usize {
        let at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; 2]);
        self.buffer.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        at
    }

    pub(crate) fn close_nest(&mut self, at: usize) {
        let length = u16::try_from(self.buffer.len() - at).unwrap_or(u16::MAX);
        self.buffer[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        self.close();
    }

    /// All messages.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer
    }

    pub(crate) fn clear(&mut self) {
        self.buffer.clear();
        self.start = 0;
    }

    fn pad(&mut self) {
        let length = self.buffer.len().next_multiple_of(4);
        self.buffer.resize(length, 0);
    }

    fn close(&mut self) {
        let length = u32::try_from(self.buffer.len() - self.start).unwrap_or(u32::MAX);
        debug_assert!(self.buffer.len() - self.start >= HEADER);
        self.buffer[self.start..self.start + 4].copy_from_slice(&length.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::Writer;

    #[test]
    fn a_message_carries_its_own_length_and_padding() {
        let mut writer = Writer::default();
        writer.begin(16, 5, 7);
        writer.header(&[1, 2, 3, 4]);
        writer.text(3, "ab");
        writer.nest(18, |w| w.u8(1, 9));
        let bytes = writer.bytes();
        assert_eq!(bytes.len(), 16 + 4 + 8 + 4 + 8);
        assert_eq!(bytes[..4], 40_u32.to_ne_bytes());
        assert_eq!(bytes[20..28], [7, 0, 3, 0, b'a', b'b', 0, 0]);
        assert_eq!(bytes[28..32], [12, 0, 18, 0x80]);
        writer.begin(17, 0, 8);
        assert_eq!(writer.start(), 40);
        assert_eq!(writer.bytes()[40..44], 16_u32.to_ne_bytes());
    }
}
