use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use weft_dns::{Asker, NetworkNames, Record};

use super::*;

fn record(n: u32) -> Record {
    let address = IpAddr::from(Ipv4Addr::from_bits(0x0a03_0000 + n));
    Record { names: vec![format!("web-{n}")], addresses: vec![address] }
}

fn table(generation: u64, records: std::ops::Range<u32>) -> NameTable {
    let network = NetworkNames {
        bridge: "wb-570001".to_owned(),
        gateways: vec![[10, 3, 0, 1].into()],
        subnets: vec!["10.3.0.0/16".parse().unwrap()],
        internal: false,
        records: records.map(record).collect(),
    };
    let asker = Asker {
        bridge: "wb-570001".to_owned(),
        addresses: vec![[10, 3, 0, 2].into()],
        networks: vec!["web".to_owned()],
        forward: true,
        inner: None,
    };
    NameTable {
        generation,
        networks: [("web".to_owned(), Arc::new(network))].into(),
        askers: vec![asker],
    }
}

/// A resolver's and an agent's side of one directory.
struct Both {
    directory: tempfile::TempDir,
    reader: Reader,
    writer: Writer,
    index: NameIndex,
}

impl Both {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let (reader, writer) = (Reader::new(path.clone()), Writer::new(path));
        Self { directory, reader, writer, index: NameIndex::default() }
    }

    /// Takes up what is new: "table", or how many patches.
    fn news(&mut self) -> Result<String, StoreError> {
        Ok(match self.reader.news()? {
            News::Table(index) => {
                self.index = *index;
                "table".to_owned()
            }
            News::Patches(patches) => {
                let count = patches.len();
                patches.into_iter().try_for_each(|patch| self.index.apply(patch))?;
                format!("{count} patches")
            }
        })
    }

    #[track_caller]
    fn write(&mut self, table: &NameTable, want: &str) {
        self.writer.write(table).unwrap();
        assert_eq!(self.news().unwrap(), want);
        assert_eq!(self.index, NameIndex::new(table));
        let (mut fresh, mut index) = (Reader::new(self.directory.path().to_owned()), None);
        if let News::Table(loaded) = fresh.news().unwrap() {
            index = Some(*loaded);
        }
        assert_eq!(index.unwrap(), NameIndex::new(table), "a resolver that starts now");
    }

    fn log(&self) -> String {
        self.files().into_iter().find(|name| name.ends_with(".log")).unwrap()
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn whole_at_first_then_what_differs() {
    let mut both = Both::new();
    assert_eq!(both.news().unwrap(), "0 patches", "no table is no error");
    both.write(&table(1, 0..100), "table");
    both.write(&table(2, 0..101), "1 patches");
    both.write(&table(3, 50..101), "1 patches");
    both.write(&table(3, 50..101), "1 patches");
    assert_eq!(both.news().unwrap(), "0 patches");
    both.writer.write(&table(4, 50..102)).unwrap();
    both.writer.write(&table(5, 50..103)).unwrap();
    assert_eq!(both.news().unwrap(), "2 patches");
    let size = std::fs::metadata(both.directory.path().join(both.log())).unwrap().len();
    assert!(size < 5_000, "{size} octets for 55 changes");
}

#[test]
fn whole_again_when_much_differs_when_the_log_is_long_and_for_a_new_agent() {
    let mut both = Both::new();
    both.write(&table(1, 0..10), "table");
    both.write(&table(2, 0..3_000), "table");
    both.write(&table(3, 0..3_001), "1 patches");
    both.writer = Writer::new(both.directory.path().to_owned());
    both.write(&table(4, 0..3_002), "table");
    both.writer.forget();
    both.write(&table(5, 0..10), "table");
    let mut wholes = 0;
    for n in 0..200 {
        both.writer.write(&table(6 + n, 0..10 + 100 * (n as u32 % 2))).unwrap();
        wholes += u32::from(both.news().unwrap() == "table");
    }
    assert!((5..50).contains(&wholes), "{wholes}");
    assert_eq!(both.files().len(), 2, "old logs are gone: {:?}", both.files());
}

#[test]
fn a_line_counts_when_its_end_is_written() {
    let mut both = Both::new();
    both.write(&table(1, 0..10), "table");
    both.write(&table(2, 0..11), "1 patches");
    let path = both.directory.path().join(both.log());
    let patch = Patch::between(&table(2, 0..11), &table(3, 0..12));
    let line = serde_json::to_vec(&patch).unwrap();
    let mut log = OpenOptions::new().append(true).open(&path).unwrap();
    for part in line.chunks(20) {
        log.write_all(part).unwrap();
        assert_eq!(both.news().unwrap(), "0 patches");
        let mut fresh = Reader::new(both.directory.path().to_owned());
        let News::Table(index) = fresh.news().unwrap() else { panic!("no table") };
        assert_eq!(index.generation(), 2);
    }
    log.write_all(b"\n").unwrap();
    assert_eq!(both.news().unwrap(), "1 patches");
    assert_eq!(both.index, NameIndex::new(&table(3, 0..12)));
}

#[test]
fn damage_is_named_and_a_new_table_mends_it() {
    let mut both = Both::new();
    let names = both.directory.path().join(TABLE);
    for damage in ["", "{", "[]", "{\"log\":1}", "\u{0}\u{0}\u{0}"] {
        both.writer.forget();
        both.write(&table(1, 0..10), "table");
        std::fs::write(&names, damage).unwrap();
        let error = both.news().unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("names.json is damaged"), "{error}");
        assert!(both.news().is_err(), "and it stays one");
    }
    both.writer.forget();
    both.write(&table(2, 0..10), "table");
    let path = both.directory.path().join(both.log());
    std::fs::write(&path, "nonsense\n").unwrap();
    assert!(matches!(both.news().unwrap_err(), StoreError::Damaged { .. }));
    both.writer.forget();
    both.write(&table(3, 0..10), "table");
    let path = both.directory.path().join(both.log());
    let misfit = Patch::between(&table(1, 0..50), &table(2, 0..49));
    std::fs::write(&path, serde_json::to_string(&misfit).unwrap() + "\n").unwrap();
    assert!(matches!(both.news().unwrap_err(), StoreError::Misfit(_)));
}

#[test]
fn only_root_reads_them_and_a_directory_that_is_none_is_named() {
    let mut both = Both::new();
    both.write(&table(1, 0..10), "table");
    for name in both.files() {
        let meta = std::fs::metadata(both.directory.path().join(&name)).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o600, "{name}");
    }
    let error = Writer::new("/dev/null/x".into()).write(&table(1, 0..1)).unwrap_err();
    assert!(error.to_string().starts_with("/dev/null/x: "), "{error}");
}
