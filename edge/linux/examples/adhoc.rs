#[path = "../tests/common/mod.rs"]
mod common;
use common::*;
use std::time::Instant;
use weft_kernel::key::FdbTable;
use weft_kernel::*;
use weft_linux::Linux;

fn main() {
    let n: u32 = std::env::args().nth(1).map_or(100_000, |a| a.parse().unwrap());
    in_netns(move || {
        let mut linux = Linux::open().unwrap();
        let mut ground = filters();
        ground.extend(network(0x570001, 3));
        ground.extend(vtep_chains(0x570001));
        apply(&mut linux, &puts(&ground));
        let mut rows = vec![];
        for i in 1..=n {
            let b = i.to_be_bytes();
            let mac = [2, 0x57, b[0], b[1], b[2], b[3]];
            let ip = std::net::Ipv4Addr::from(0x0a03_0000u32 + 0x10000 + i);
            rows.push((Key::Neighbour("wb-570001".into(), ip.into()), Object::Neighbour(mac)));
            rows.push((Key::Fdb("wv-570001".into(), FdbTable::Device, mac), Object::Fdb(Some("172.30.0.16".parse().unwrap()))));
            rows.push((Key::Fdb("wv-570001".into(), FdbTable::Bridge, mac), Object::Fdb(None)));
        }
        let steps = puts(&rows);
        for (name, steps) in [("from nothing", steps.clone()), ("again", steps)] {
            let t = Instant::now();
            let mut each = vec![];
            for s in steps.chunk_by(|a, b| std::mem::discriminant(a.key()) == std::mem::discriminant(b.key())) {
                let t = Instant::now();
                for s in s.chunks(4096) { apply(&mut linux, s); }
                each.push((s.len(), t.elapsed().as_secs_f64()));
            }
            println!("{name}: {} rows in {:.3} s  {each:?}", steps.len(), t.elapsed().as_secs_f64());
        }
        let t = Instant::now();
        let s = linux.observe(&Scope::All).unwrap();
        println!("observe all: {} in {:.3}", s.len(), t.elapsed().as_secs_f64());
        let t = Instant::now();
        linux.observe(&Scope::Cheap).unwrap();
        println!("observe cheap {:.4}", t.elapsed().as_secs_f64());
        // attaches
        let mut times = vec![];
        let mut kinds: std::collections::BTreeMap<String, Vec<f64>> = Default::default();
        let mut keep = vec![];
        for i in 0..40u8 {
            let c = Container::new();
            let id = linux.register_netns(&c.path).unwrap();
            let mut e = endpoint(0x570001, 3, id);
            // distinct names
            let steps: Vec<Step> = puts(&e.drain(..).map(|(k, o)| rename(k, o, i)).collect::<Vec<_>>());
            if i % 2 == 0 {
                let t = Instant::now();
                apply(&mut linux, &steps);
                times.push(t.elapsed().as_secs_f64() * 1e3);
            } else {
                for s in &steps {
                    let t = Instant::now();
                    apply(&mut linux, std::slice::from_ref(s));
                    kinds.entry(format!("{}", s.key()).chars().take(14).collect()).or_default().push(t.elapsed().as_secs_f64() * 1e3);
                }
            }
            keep.push(c);
        }
        times.sort_by(f64::total_cmp);
        println!("attach ms p50 {:.2} min {:.2} max {:.2}", times[times.len() / 2], times[0], times[times.len() - 1]);
        for (k, mut v) in kinds { v.sort_by(f64::total_cmp); println!("  {k:16} {:.3}", v[v.len() / 2]); }
        let t = Instant::now();
        let s = linux.observe(&Scope::Cheap).unwrap();
        println!("observe cheap with 40 containers: {} in {:.4}", s.len(), t.elapsed().as_secs_f64());
    });
}
fn rename(k: Key, o: Object, i: u8) -> (Key, Object) {
    let end = format!("we-0000{i:02x}570001");
    let old = "we-000000570001".to_string();
    let f = |s: String| if s == old { end.clone() } else { s };
    let m = |mut m: [u8; 6]| { if m[5] == 2 { m[4] = i; } m };
    let k = match k {
        Key::Link(n, l) => Key::Link(n, f(l)),
        Key::Up(n, l) => Key::Up(n, f(l)),
        Key::DeviceChain(t, _, _) => Key::DeviceChain(t, end.clone(), format!("{end}-in")),
        Key::Fdb(l, t, mac) => Key::Fdb(f(l), t, m(mac)),
        k => k,
    };
    (k, o)
}
