//! A virtual host: its addresses and its directories.

use std::ffi::OsStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::record::{self, Record};
use crate::{namespace, process};

/// A virtual host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// `a`, `b` …
    pub name: String,
    /// Its network namespace.
    pub netns: String,
    /// Its address on the underlay: 172.10.0.15 for `a`, 172.10.0.16 for `b`; on an IPv6 underlay
    /// fd00:10::15 and so on.
    pub address: IpAddr,
    /// Its IPv6 address, which it has on any underlay.
    pub address_v6: Ipv6Addr,
    /// Its directories and its socket lie here.
    pub directory: PathBuf,
}

impl Host {
    pub(crate) fn new(lab: &str, number: u8, ipv6_underlay: bool) -> Self {
        let name = char::from(b'a' + number).to_string();
        let last = 15 + number;
        // Written with the same digits as the IPv4 one: 0x15, not 15.
        let hex = u16::from(last / 10) * 16 + u16::from(last % 10);
        let address_v6 = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, hex);
        let address_v4 = Ipv4Addr::new(172, 10, 0, last);
        Self {
            netns: format!("{lab}-{name}"),
            address: if ipv6_underlay { address_v6.into() } else { address_v4.into() },
            address_v6,
            directory: Record::directory(lab).join(&name),
            name,
        }
    }

    /// Where its daemon keeps what survives a reboot.
    pub fn state_dir(&self) -> PathBuf {
        self.directory.join("state")
    }

    /// Where its daemon keeps what does not.
    pub fn run_dir(&self) -> PathBuf {
        self.directory.join("run")
    }

    /// Where its daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.run_dir().join("weft.sock")
    }

    /// What its daemon takes for `/etc/resolv.conf`, if the lab was made with one.
    pub fn resolv_conf(&self) -> PathBuf {
        self.directory.join("resolv.conf")
    }

    /// Where its daemon pins programs and tables of its shortcut (bpf(2), BPF_OBJ_PIN): the file system
    /// there is one for the whole machine.
    pub fn bpf_dir(&self) -> PathBuf {
        let of_lab = self.directory.strip_prefix(record::ROOT).unwrap_or(&self.directory);
        Path::new(record::PINS).join(of_lab)
    }

    /// The file of its network namespace.
    pub fn netns_file(&self) -> PathBuf {
        namespace::named(&self.netns)
    }

    /// A command that will run on this host, with the variables that lead to its daemon.
    ///
    /// # Errors
    /// When its namespace is gone.
    pub fn command(&self, program: impl AsRef<OsStr>) -> io::Result<Command> {
        let mut command = process::enter(&self.netns_file(), None, program)?;
        command
            .env("WEFT_NAME", &self.name)
            .env("WEFT_STATE_DIR", self.state_dir())
            .env("WEFT_RUN_DIR", self.run_dir())
            .env("WEFT_BPF_DIR", self.bpf_dir())
            // This machine's own engine is none of the virtual hosts' business.
            .env("WEFT_DOCKER_PLUGIN", "off")
            .env("WEFT_SOCKET", self.socket());
        if self.resolv_conf().exists() {
            command.env("WEFT_RESOLV_CONF", self.resolv_conf());
        }
        Ok(command)
    }
}
