use std::net::IpAddr;
use std::str::FromStr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query as Asked, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name, RData, RecordType};
use proptest::prelude::*;

use super::*;

/// A query as another implementation writes it.
fn query(name: &str, kind: RecordType, edns: Option<u16>) -> Message {
    let mut message = Message::new(0x1234, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Asked::query(Name::from_ascii(name).unwrap(), kind));
    if let Some(size) = edns {
        let mut opt = Edns::new();
        opt.set_max_payload(size);
        message.set_edns(opt);
    }
    message
}

fn read(message: &Message) -> Request {
    Request::read(&message.to_vec().unwrap()).unwrap()
}

fn addresses(count: u8) -> Vec<Data> {
    (0..count).map(|n| Data::Address(IpAddr::from([10, 3, 0, n]))).collect()
}

#[test]
fn a_reply_is_what_another_implementation_reads() {
    let request = read(&query("Web-1.WEB.", RecordType::A, Some(4_096)));
    assert_eq!(request.query, Query::text("web-1.web", Kind::A));
    assert_eq!(request.datagram(), DATAGRAM);
    let reply = Message::from_vec(&request.reply(Code::NoError, &addresses(2), DATAGRAM)).unwrap();
    assert_eq!(reply.metadata.id, 0x1234);
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
    assert!(reply.metadata.recursion_desired && !reply.metadata.truncation);
    assert_eq!(reply.queries[0].name().to_string(), "Web-1.WEB.", "in the asker's case");
    let found: Vec<IpAddr> = reply.answers.iter().filter_map(|a| a.data.ip_addr()).collect();
    assert_eq!(found, [IpAddr::from([10, 3, 0, 0]), IpAddr::from([10, 3, 0, 1])]);
    assert!(reply.answers.iter().all(|a| a.name == *reply.queries[0].name() && a.ttl == TTL));
    assert_eq!(reply.edns.as_ref().map(Edns::max_payload), Some(DATAGRAM));
}

#[test]
fn the_other_two_shapes() {
    let request = read(&query("x", RecordType::AAAA, None));
    let six = [Data::Address("fd00:3::2".parse().unwrap())];
    let reply = Message::from_vec(&request.reply(Code::NoError, &six, 512)).unwrap();
    assert_eq!(reply.answers[0].data.ip_addr(), Some("fd00:3::2".parse().unwrap()));
    assert!(reply.edns.is_none(), "no EDNS to those who have none");
    let request = read(&query("2.0.3.10.in-addr.arpa", RecordType::PTR, None));
    let name = [Data::Name("web-1.web".to_owned())];
    let reply = Message::from_vec(&request.reply(Code::NoError, &name, 512)).unwrap();
    let RData::PTR(pointer) = &reply.answers[0].data else { panic!("{reply}") };
    assert_eq!(pointer.0, Name::from_str("web-1.web.").unwrap());
}

#[test]
fn codes() {
    let request = read(&query("x.web", RecordType::A, None));
    let table = [
        (Code::NoName, ResponseCode::NXDomain, true),
        (Code::Refused, ResponseCode::Refused, false),
        (Code::Failed, ResponseCode::ServFail, false),
    ];
    for (code, want, authoritative) in table {
        let reply = Message::from_vec(&request.reply(code, &[], 512)).unwrap();
        assert_eq!(reply.metadata.response_code, want);
        assert_eq!(reply.metadata.authoritative, authoritative);
        assert!(reply.answers.is_empty());
    }
}

#[test]
fn what_does_not_fit_is_left_out_and_said_so() {
    for (edns, limit, most) in [(None, 512, 29), (Some(100), 512, 29), (Some(1_000), 1_000, 59)] {
        let request = read(&query("worker.web", RecordType::A, edns));
        assert_eq!(request.datagram(), limit);
        let bytes = request.reply(Code::NoError, &addresses(100), limit);
        assert!(bytes.len() <= usize::from(limit), "{} > {limit}", bytes.len());
        let reply = Message::from_vec(&bytes).unwrap();
        assert!(reply.metadata.truncation);
        assert!((most - 2..=most + 1).contains(&reply.answers.len()), "{}", reply.answers.len());
        assert_eq!(reply.edns.is_some(), edns.is_some());
        let whole = Message::from_vec(&request.reply(Code::NoError, &addresses(100), STREAM));
        let whole = whole.unwrap();
        assert_eq!((whole.answers.len(), whole.metadata.truncation), (100, false));
    }
}

#[test]
fn what_is_not_a_query_is_not_taken_for_one() {
    let good = query("web-1", RecordType::A, None).to_vec().unwrap();
    let changed = |place: usize, value: u8| {
        let mut bytes = good.clone();
        bytes[place] = value;
        Request::read(&bytes).unwrap_err()
    };
    for length in 0..HEADER {
        assert_eq!(Request::read(&good[..length]).unwrap_err(), Odd::Short);
    }
    assert_eq!(changed(2, 0x81), Odd::Response);
    for length in HEADER..good.len() {
        let Odd::Malformed(reply) = Request::read(&good[..length]).unwrap_err() else { panic!() };
        assert_eq!(reply, [0x12, 0x34, 0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
    for opcode in 1..16 {
        let Odd::NotImplemented(reply) = changed(2, opcode << 3) else { panic!("{opcode}") };
        assert_eq!(reply[2] >> 3 & 15, opcode, "the operation comes back (RFC 8906 section 3.1.4)");
        assert_eq!(reply[3] & 15, 4);
    }
    for count in [0, 2, 255] {
        assert!(matches!(changed(5, count), Odd::Malformed(_)), "{count} questions");
    }
    assert!(matches!(changed(HEADER, 0xc0), Odd::Malformed(_)), "a name that points at itself");
    assert!(matches!(changed(11, 1), Odd::Malformed(_)), "a record that is not there");
}

#[test]
fn unknown_versions_of_edns_and_two_of_it() {
    let mut newer = query("web-1", RecordType::A, Some(1_232));
    newer.edns.as_mut().unwrap().set_version(1);
    let Err(Odd::NotImplemented(reply)) = Request::read(&newer.to_vec().unwrap()) else { panic!() };
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(u16::from(reply.metadata.response_code), 16, "BADVERS");
    assert_eq!(reply.edns.unwrap().version(), 0);
    let mut twice = query("web-1", RecordType::A, Some(1_232)).to_vec().unwrap();
    let opt = twice[twice.len() - OPT_LENGTH..].to_vec();
    twice.extend_from_slice(&opt);
    twice[11] = 2;
    assert!(matches!(Request::read(&twice), Err(Odd::Malformed(_))));
}

#[test]
fn upstream_gets_the_question_and_none_of_the_options() {
    let mut asked = query("Example.COM.", RecordType::MX, Some(4_096));
    asked.metadata.checking_disabled = true;
    asked.metadata.authentic_data = true;
    let opt = asked.edns.as_mut().unwrap();
    opt.set_dnssec_ok(true);
    opt.options_mut().insert(EdnsOption::Unknown(10, vec![1, 2, 3, 4, 5, 6, 7, 8]));
    let sent = Message::from_vec(&read(&asked).upstream(0x5678)).unwrap();
    assert_eq!(sent.metadata.id, 0x5678);
    assert_eq!(sent.metadata.message_type, MessageType::Query);
    assert!(sent.metadata.recursion_desired && sent.metadata.checking_disabled);
    assert!(sent.metadata.authentic_data);
    assert_eq!(sent.queries[0].to_string(), asked.queries[0].to_string());
    let opt = sent.edns.unwrap();
    assert_eq!((opt.max_payload(), opt.flags().dnssec_ok), (DATAGRAM, true));
    assert!(opt.options().as_ref().is_empty());
    let plain = read(&query("example.com", RecordType::A, None)).upstream(1);
    assert!(Message::from_vec(&plain).unwrap().edns.is_none());
}

#[test]
fn only_a_reply_to_the_question_is_one() {
    let request = read(&query("example.com", RecordType::HTTPS, None));
    let reply = |change: fn(&mut Vec<u8>)| {
        let mut bytes = request.upstream(7);
        bytes[2] |= 0x80;
        change(&mut bytes);
        request.is_answered_by(&bytes, 7)
    };
    assert!(reply(|_| ()));
    assert!(reply(|bytes| bytes[HEADER + 1] = b'E'), "letters in either case");
    assert!(!reply(|bytes| bytes[0] = 1), "another id");
    assert!(!reply(|bytes| bytes[2] &= 0x7f), "a query");
    assert!(!reply(|bytes| bytes[2] |= 0x08), "another operation");
    assert!(!reply(|bytes| bytes[5] = 0), "no question");
    assert!(!reply(|bytes| bytes[5] = 2), "two questions");
    assert!(!reply(|bytes| bytes[HEADER + 1] = b'f'), "another name");
    assert!(!reply(|bytes| *bytes.iter_mut().nth_back(2).unwrap() = 97), "type 97, not 65");
    assert!(!reply(|bytes| *bytes.last_mut().unwrap() = 3), "another class");
    assert!(!reply(|bytes| bytes.truncate(HEADER + 3)), "cut in the question");
    assert!(!reply(Vec::clear), "nothing");
}

#[test]
fn a_reply_is_passed_on_with_the_askers_id_and_cut_to_its_size() {
    for edns in [None, Some(1_232)] {
        let request = read(&query("example.com", RecordType::TXT, edns));
        let mut reply = request.upstream(7);
        reply[2] |= 0x80;
        reply[3] = 0x80;
        let short = request.pass(reply.clone(), 512);
        assert_eq!(short[..2], [0x12, 0x34]);
        assert_eq!(short[2..], reply[2..]);
        reply[7] = 99;
        reply.resize(2_000, 0xff);
        let cut = Message::from_vec(&request.pass(reply.clone(), request.datagram())).unwrap();
        assert!(cut.metadata.truncation && cut.answers.is_empty());
        assert_eq!(cut.metadata.id, 0x1234);
        assert_eq!(cut.edns.is_some(), edns.is_some());
        assert_eq!(request.pass(reply, STREAM).len(), 2_000);
    }
}

fn label() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 1..64)
}

proptest! {
    #[test]
    fn nothing_that_comes_in_makes_it_stumble(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        check(&bytes)?;
    }

    #[test]
    fn nor_does_a_query_with_a_few_octets_changed(
        changes in prop::collection::vec((0_usize..64, any::<u8>()), 0..6), edns: bool,
    ) {
        let mut bytes = query("web-1.web", RecordType::A, edns.then_some(700)).to_vec().unwrap();
        for (place, value) in changes {
            let place = place % bytes.len();
            bytes[place] = value;
        }
        check(&bytes)?;
    }

    #[test]
    fn every_name_comes_back_as_it_was(
        labels in prop::collection::vec(label(), 0..4), kind: u16, id: u16,
    ) {
        prop_assume!(labels.iter().map(|label| label.len() + 1).sum::<usize>() < 250);
        let mut bytes = id.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in &labels {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label);
        }
        bytes.push(0);
        bytes.extend_from_slice(&kind.to_be_bytes());
        bytes.extend_from_slice(&[0, 1]);
        let request = Request::read(&bytes).unwrap();
        prop_assert_eq!(&request.question, &bytes[HEADER..]);
        prop_assert_eq!(request.query.labels.len(), labels.len());
        let mut reply = request.upstream(9);
        reply[2] |= 0x80;
        prop_assert!(request.is_answered_by(&reply, 9));
        prop_assert_eq!(&request.pass(reply, 512)[..2], &id.to_be_bytes());
    }
}

/// Whatever came in: what goes out is a response with the same id that others can read.
fn check(bytes: &[u8]) -> Result<(), TestCaseError> {
    let reply = match Request::read(bytes) {
        Ok(request) => request.reply(Code::NoError, &addresses(3), request.datagram()),
        Err(Odd::Malformed(reply) | Odd::NotImplemented(reply)) => reply,
        Err(Odd::Short | Odd::Response) => return Ok(()),
    };
    prop_assert!(reply.len() <= usize::from(DATAGRAM));
    prop_assert_eq!(&reply[..2], &bytes[..2]);
    let message = Message::from_vec(&reply);
    prop_assert!(message.is_ok(), "{:?} from {:?}", message, reply);
    prop_assert_eq!(message.unwrap().metadata.message_type, MessageType::Response);
    Ok(())
}
