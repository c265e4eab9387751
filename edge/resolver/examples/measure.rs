//! What handing over tables and answering costs.
//!
//! `measure STATE` hands tables to the resolver of that state directory and prints medians;
//! `measure ask SERVER FROM…` asks it for three seconds, from all these addresses at once.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use weft_dns::{Asker, Kind, NameIndex, NameTable, NetworkNames, Patch, Query, Record, answer};
use weft_resolver::Client;

fn table(records: u32) -> NameTable {
    let record = |n: u32| Record {
        names: vec![format!("container-{n}"), format!("alias-{n}")],
        addresses: vec![IpAddr::from(Ipv4Addr::from_bits(0x0a00_0002 + n))],
    };
    let network = NetworkNames {
        bridge: "wb-570001".to_owned(),
        gateways: vec![[10, 0, 0, 1].into()],
        subnets: Vec::new(),
        internal: false,
        records: (0..records).map(record).collect(),
    };
    let asker = Asker {
        bridge: "wb-570001".to_owned(),
        addresses: (2..34).map(|host| [10, 0, 0, host].into()).collect(),
        networks: vec!["web".to_owned()],
        forward: true,
        inner: None,
    };
    NameTable {
        generation: 1,
        networks: [("web".to_owned(), Arc::new(network))].into(),
        askers: vec![asker],
    }
}

fn median(times: u32, mut work: impl FnMut()) -> Duration {
    let mut all: Vec<Duration> = (0..times)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    all.sort();
    all[all.len() / 2]
}

/// Keeps eight queries per source under way; returns how many were answered.
fn ask(server: &str, from: &str, end: Instant) -> std::io::Result<u64> {
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect((server, 53))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    let mut query = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    query.extend_from_slice(b"\x0bcontainer-7\x03web\x00\x00\x01\x00\x01");
    let mut buffer = [0; 512];
    let (mut answered, mut under_way) = (0, 0);
    while Instant::now() < end {
        while under_way < 8 {
            socket.send(&query)?;
            under_way += 1;
        }
        match socket.recv(&mut buffer) {
            Ok(_) => {
                answered += 1;
                under_way -= 1;
            }
            Err(_) => under_way = 0,
        }
    }
    Ok(answered)
}

fn ask_all(server: &str, from: &[String]) {
    let start = Instant::now();
    let end = start + Duration::from_secs(3);
    let total: u64 = std::thread::scope(|scope| {
        let askers: Vec<_> =
            from.iter().map(|from| scope.spawn(move || ask(server, from, end))).collect();
        askers.into_iter().filter_map(|asker| asker.join().ok()?.ok()).sum()
    });
    println!("{:.0} answers a second", total as f64 / start.elapsed().as_secs_f64());
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, server, from @ ..] = words.as_slice()
        && mode == "ask"
    {
        return ask_all(server, from);
    }
    let state = PathBuf::from(std::env::args().nth(1).unwrap_or_else(|| "measure".to_owned()));
    for records in [10, 5_000, 100_000] {
        let mut old = table(records);
        let mut new = old.clone();
        if let Some(network) = new.networks.get_mut("web") {
            Arc::make_mut(network).records.push(Record {
                names: vec!["new".to_owned()],
                addresses: vec![[10, 255, 0, 1].into()],
            });
        }
        let index = NameIndex::new(&old);
        println!("{records} endpoints");
        println!("  index from a table      {:?}", median(5, || _ = NameIndex::new(&old)));
        println!("  compare two tables      {:?}", median(5, || _ = Patch::between(&old, &new)));
        let query = Query::text("container-7.web", Kind::A);
        let from = ("wb-570001", [10, 0, 0, 2].into());
        let many = median(5, || {
            (0..10_000)
                .for_each(|seed| _ = std::hint::black_box(answer(&index, from, &query, seed)));
        });
        println!("  answer                  {:?}", many / 10_000);
        let mut client = Client::new(state.clone(), state.join("control"));
        let whole = median(1, || {
            println!("  push, whole: {:?}", client.push(&old).map_err(|e| e.to_string()))
        });
        println!("  push, whole             {whole:?}");
        let one = median(21, || {
            std::mem::swap(&mut old, &mut new);
            _ = client.push(&old);
        });
        println!("  push, one record        {one:?}");
    }
}
