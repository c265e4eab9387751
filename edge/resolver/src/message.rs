//! DNS messages: queries in, replies out (RFC 1035 section 4, RFC 6891 for EDNS).
//!
//! What strangers send is parsed by hickory-proto. Replies have three shapes only and are written
//! here.

use std::net::IpAddr;

use hickory_proto::op::Message;
use weft_dns::{Data, Kind, Query, TTL};

/// The largest reply over UDP: fits into one packet of every path (DNS flag day 2020).
pub(crate) const DATAGRAM: u16 = 1_232;
/// The largest message over TCP.
pub(crate) const STREAM: u16 = u16::MAX;

const HEADER: usize = 12;
const OPT_LENGTH: usize = 11;

/// The result of a query (RFC 1035 section 4.1.1, RFC 6895 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    NoError = 0,
    Malformed = 1,
    Failed = 2,
    NoName = 3,
    NotImplemented = 4,
    Refused = 5,
    BadVersion = 16,
}

/// A query that can be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    id: u16,
    /// The flags that are copied: RD and CD; AD is a wish as well (RFC 6840 section 5.7).
    recursion: bool,
    authentic: bool,
    unchecked: bool,
    /// The question as it is on the wire, in the asker's case.
    question: Vec<u8>,
    edns: Option<Edns>,
    /// What it asks.
    pub(crate) query: Query,
}

/// What the asker says about itself (RFC 6891 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Edns {
    size: u16,
    dnssec: bool,
}

/// Why a message is not a query that can be decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Odd {
    /// Shorter than a header: nobody to answer.
    Short,
    /// A response: answering it could make a loop.
    Response,
    /// Broken; here is what to reply.
    Malformed(Vec<u8>),
    /// An operation other than a query, or an EDNS version we do not speak; what to reply.
    NotImplemented(Vec<u8>),
}

impl Request {
    /// Reads a message.
    ///
    /// # Errors
    /// Says what to do with everything that is not one standard query.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Odd> {
        let header: &[u8; HEADER] = bytes.first_chunk().ok_or(Odd::Short)?;
        if header[2] & 0x80 != 0 {
            return Err(Odd::Response);
        }
        if header[2] & 0x78 != 0 {
            return Err(Odd::NotImplemented(bare(header, Code::NotImplemented)));
        }
        let malformed = || Odd::Malformed(bare(header, Code::Malformed));
        // Before anything is read: whoever reads questions first makes room for as many as are said.
        if header[4..6] != [0, 1] {
            return Err(malformed());
        }
        let message = Message::from_vec(bytes).map_err(|_| malformed())?;
        let [asked] = message.queries.as_slice() else { return Err(malformed()) };
        let (kind, class) = (u16::from(asked.query_type()), u16::from(asked.query_class()));
        let mut question = Vec::with_capacity(64);
        for label in asked.name() {
            question.push(label.len() as u8);
            question.extend_from_slice(label);
        }
        question.push(0);
        question.extend_from_slice(&kind.to_be_bytes());
        question.extend_from_slice(&class.to_be_bytes());
        let edns = message.edns.as_ref();
        let request = Self {
            id: message.metadata.id,
            recursion: message.metadata.recursion_desired,
            authentic: message.metadata.authentic_data,
            unchecked: message.metadata.checking_disabled,
            question,
            edns: edns
                .map(|edns| Edns { size: edns.max_payload(), dnssec: edns.flags().dnssec_ok }),
            query: Query {
                internet: class == 1,
                ..Query::new(asked.name().iter(), Kind::from_code(kind))
            },
        };
        if edns.is_some_and(|edns| edns.version() != 0) {
            return Err(Odd::NotImplemented(request.reply(Code::BadVersion, &[], DATAGRAM)));
        }
        Ok(request)
    }

    /// The largest reply that the asker takes over UDP.
    pub(crate) fn datagram(&self) -> u16 {
        self.edns.map_or(512, |edns| edns.size.clamp(512, DATAGRAM))
    }

    /// A reply of our own. Records that do not fit are left out, and the truncation bit says so.
    pub(crate) fn reply(&self, code: Code, records: &[Data], limit: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(512);
        let known = matches!(code, Code::NoError | Code::NoName);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.push(0x80 | u8::from(known) << 2 | u8::from(self.recursion));
        bytes.push(0x80 | u8::from(self.unchecked) << 4 | (code as u8 & 0x0f));
        bytes.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        bytes.extend_from_slice(&self.question);
        let end = usize::from(limit) - self.edns.map_or(0, |_| OPT_LENGTH);
        let mut count = 0_u16;
        for data in records {
            let before = bytes.len();
            write_record(&mut bytes, data);
            if bytes.len() > end {
                bytes.truncate(before);
                bytes[2] |= 0x02;
                break;
            }
            count += 1;
        }
        bytes[6..8].copy_from_slice(&count.to_be_bytes());
        self.write_opt(&mut bytes, code);
        bytes
    }

    /// The query as it goes upstream: written anew, so that what was decided on is what is asked,
    /// and without the asker's EDNS options, which are between it and us (RFC 6891 section 6.1.1).
    pub(crate) fn upstream(&self, id: u16) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(&id.to_be_bytes());
        bytes.push(u8::from(self.recursion));
        bytes.push(u8::from(self.authentic) << 5 | u8::from(self.unchecked) << 4);
        bytes.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(self.edns.is_some())]);
        bytes.extend_from_slice(&self.question);
        self.write_opt(&mut bytes, Code::NoError);
        bytes
    }

    /// Whether these octets are a reply to the query sent upstream under this id: the id and the
    /// question must be the same, letters in either case.
    pub(crate) fn is_answered_by(&self, bytes: &[u8], id: u16) -> bool {
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else { return false };
        let Some(question) = rest.get(..self.question.len()) else { return false };
        let (name, kind) = question.split_at(question.len() - 4);
        let (own_name, own_kind) = self.question.split_at(self.question.len() - 4);
        header[..2] == id.to_be_bytes()
            && header[2] & 0xf8 == 0x80
            && header[4..6] == [0, 1]
            && name.eq_ignore_ascii_case(own_name)
            && kind == own_kind
    }

    /// Makes an upstream server's reply one to the asker: its id, and cut to the question when it
    /// is longer than the asker takes.
    pub(crate) fn pass(&self, mut reply: Vec<u8>, limit: u16) -> Vec<u8> {
        reply[..2].copy_from_slice(&self.id.to_be_bytes());
        if reply.len() > usize::from(limit) {
            reply.truncate(HEADER + self.question.len());
            reply[2] |= 0x02;
            let counts = [0, 0, 0, 0, 0, u8::from(self.edns.is_some())];
            reply[6..HEADER].copy_from_slice(&counts);
            self.write_opt(&mut reply, Code::NoError);
        }
        reply
    }

    /// Our side of EDNS, if the asker has one.
    fn write_opt(&self, bytes: &mut Vec<u8>, code: Code) {
        if let Some(edns) = self.edns {
            bytes.extend_from_slice(&[0, 0, 41]);
            bytes.extend_from_slice(&DATAGRAM.to_be_bytes());
            bytes.extend_from_slice(&[code as u8 >> 4, 0, u8::from(edns.dnssec) << 7, 0, 0, 0]);
        }
    }
}

/// Whether a reply says that the server could not answer, so that another may.
pub(crate) fn is_failure(reply: &[u8]) -> bool {
    matches!(reply[3] & 0x0f, 1 | 2 | 4 | 5)
}

/// Whether a reply is cut.
pub(crate) fn is_truncated(reply: &[u8]) -> bool {
    reply[2] & 0x02 != 0
}

/// A reply without a question, for what could not be read.
fn bare(header: &[u8; HEADER], code: Code) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    bytes[..2].copy_from_slice(&header[..2]);
    bytes[2] = 0x80 | header[2] & 0x79;
    bytes[3] = 0x80 | code as u8;
    bytes
}

/// One record, its owner being the question's name (RFC 1035 section 4.1.4: a pointer to it).
fn write_record(bytes: &mut Vec<u8>, data: &Data) {
    let kind: u16 = match data {
        Data::Address(IpAddr::V4(_)) => 1,
        Data::Address(IpAddr::V6(_)) => 28,
        Data::Name(_) => 12,
    };
    bytes.extend_from_slice(&[0xc0, HEADER as u8]);
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&[0, 1]);
    bytes.extend_from_slice(&TTL.to_be_bytes());
    let length = bytes.len();
    bytes.extend_from_slice(&[0, 0]);
    match data {
        Data::Address(IpAddr::V4(address)) => bytes.extend_from_slice(&address.octets()),
        Data::Address(IpAddr::V6(address)) => bytes.extend_from_slice(&address.octets()),
        Data::Name(name) => write_name(bytes, name),
    }
    let written = (bytes.len() - length - 2) as u16;
    bytes[length..length + 2].copy_from_slice(&written.to_be_bytes());
}

/// A name of ours. Its labels have at most 63 octets each where they are made; one that is longer
/// all the same is cut rather than read as a pointer.
fn write_name(bytes: &mut Vec<u8>, name: &str) {
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        bytes.push(label.len() as u8);
        bytes.extend_from_slice(label);
    }
    bytes.push(0);
}

#[cfg(test)]
mod tests;
