//! A lab: its hosts, its containers, its end.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::host::Host;
use crate::netlink::Netlink;
use crate::record::{Owner, Record, check_name};
use crate::{Error, Process, docker, namespace, process};

const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(172, 10, 0, 1);
const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 1);

/// What a lab is to be like.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// What it is called; part of the names of its namespaces.
    pub name: String,
    /// How many hosts, 1 to 26.
    pub hosts: usize,
    /// The hosts have IPv6 addresses only.
    pub ipv6_underlay: bool,
    /// Octets of the largest packet on the underlay.
    pub mtu: u32,
    /// Who it belongs to.
    pub owner: Owner,
    /// What the hosts' daemons take for the host's own `/etc/resolv.conf`; `None`: the machine's.
    pub resolv_conf: Option<String>,
    /// The hosts, exactly two, are joined by a single cable with nothing in between: no switch, no
    /// default gateway and no world outside. Such hosts cannot be rebooted.
    pub direct_cable: bool,
}

impl LabConfig {
    /// Two hosts with IPv4 and IPv6 addresses, 1,500 octets, owned by this process.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            hosts: 2,
            ipv6_underlay: false,
            mtu: 1500,
            owner: Owner::ThisProcess,
            resolv_conf: None,
            direct_cable: false,
        }
    }
}

/// An extra namespace, to be attached to networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// Its network namespace.
    pub netns: String,
}

impl Container {
    /// The file of its network namespace.
    pub fn netns_file(&self) -> PathBuf {
        namespace::named(&self.netns)
    }

    /// A command that will run inside, with the names that `weft attach` wrote for it.
    ///
    /// # Errors
    /// When its namespace is gone.
    pub fn command(&self, program: impl AsRef<OsStr>) -> io::Result<Command> {
        process::enter(&self.netns_file(), Some(&resolv_conf_of(&self.netns)), program)
    }
}

fn resolv_conf_of(netns: &str) -> PathBuf {
    Path::new("/etc/netns").join(netns).join("resolv.conf")
}

/// A lab. Dropping it takes it down.
#[derive(Debug)]
pub struct Lab {
    record: Record,
    /// Whether dropping it takes it down.
    owned: bool,
}

impl Lab {
    /// Makes a lab, after clearing away labs whose processes were killed. If it cannot be made
    /// whole, nothing of it is left.
    ///
    /// # Errors
    /// When the name or the number of hosts will not do, or the system refuses.
    pub fn up(config: LabConfig) -> Result<Self, Error> {
        check_name(&config.name)?;
        let hosts = u8::try_from(config.hosts).ok().filter(|n| (1..=26).contains(n));
        let hosts = hosts.ok_or(Error::Hosts(config.hosts))?;
        if config.direct_cable && hosts != 2 {
            return Err(Error::Cable(config.hosts));
        }
        for orphan in Record::orphans()? {
            take_down(&orphan)?;
        }
        let host = |number| Host::new(&config.name, number, config.ipv6_underlay);
        let record = Record {
            name: config.name.clone(),
            owner: config.owner,
            mtu: config.mtu,
            hosts: (0..hosts).map(host).collect(),
        };
        // From here on, dropping the lab takes down whatever has been made of it.
        let lab = Self { record: record.create()?, owned: true };
        if config.direct_cable {
            lab.make_pair(&config)?;
            return Ok(lab);
        }
        lab.make_underlay(&config)?;
        for host in lab.hosts() {
            lab.make_host(host, &config)?;
        }
        Ok(lab)
    }

    /// The lab of this name, made by another process. Dropping it changes nothing.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn open(name: &str) -> Result<Self, Error> {
        Ok(Self { record: Record::open(name)?, owned: false })
    }

    /// All labs of this machine.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn list() -> Result<Vec<Self>, Error> {
        let records = Record::all()?;
        Ok(records.into_iter().map(|record| Self { record, owned: false }).collect())
    }

    /// Takes down the lab of this name, whoever made it, also one that was not finished.
    ///
    /// # Errors
    /// [`Error::NotFound`], or when something of it cannot be removed.
    pub fn down_named(name: &str) -> Result<(), Error> {
        take_down(&Record::open(name)?)
    }

    /// Takes it down.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn down(mut self) -> Result<(), Error> {
        self.owned = false;
        take_down(&self.record)
    }

    /// Leaves it up when this process ends. Its owner should be [`Owner::Nobody`].
    pub fn leave_up(mut self) {
        self.owned = false;
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Its hosts.
    pub fn hosts(&self) -> &[Host] {
        &self.record.hosts
    }

    /// The host of this name.
    ///
    /// # Errors
    /// [`Error::NoHost`].
    pub fn host(&self, name: &str) -> Result<&Host, Error> {
        self.hosts()
            .iter()
            .find(|h| h.name == name)
            .ok_or_else(|| Error::NoHost { lab: self.name().to_owned(), host: name.to_owned() })
    }

    /// The file of the underlay's namespace. In there, the bridge is `br0` and the cable to host
    /// `a` is link `a`.
    pub fn underlay(&self) -> PathBuf {
        namespace::named(&self.underlay_name())
    }

    fn underlay_name(&self) -> String {
        format!("{}-underlay", self.name())
    }

    /// A command that will run on a host.
    ///
    /// # Errors
    /// When there is no such host.
    pub fn command(&self, host: &str, program: impl AsRef<OsStr>) -> Result<Command, Error> {
        let host = self.host(host)?;
        host.command(program).map_err(Error::system(format!("enter host {}", host.name)))
    }

    /// Runs a command on a host and waits for it.
    ///
    /// # Errors
    /// When there is no such host, or the command cannot be started.
    pub fn exec<S: AsRef<OsStr>>(&self, host: &str, words: &[S]) -> Result<Output, Error> {
        self.words(host, words)?.output().map_err(Error::system(format!("run a command on {host}")))
    }

    /// Starts a command on a host.
    ///
    /// # Errors
    /// When there is no such host, or the command cannot be started.
    pub fn spawn<S: AsRef<OsStr>>(&self, host: &str, words: &[S]) -> Result<Process, Error> {
        Process::spawn(self.words(host, words)?)
            .map_err(Error::system(format!("start a command on {host}")))
    }

    fn words<S: AsRef<OsStr>>(&self, host: &str, words: &[S]) -> Result<Command, Error> {
        let empty = || Error::system("run a command")(io::ErrorKind::InvalidInput.into());
        let (program, arguments) = words.split_first().ok_or_else(empty)?;
        let mut command = self.command(host, program)?;
        command.args(arguments);
        Ok(command)
    }

    /// The processes of a host.
    pub fn processes(&self, host: &str) -> Vec<u32> {
        self.host(host).map(|h| process::inside(&h.netns_file())).unwrap_or_default()
    }

    /// Makes an extra namespace `LAB-c-NAME` with its loopback up, to be attached to networks.
    ///
    /// # Errors
    /// When the name will not do, is taken, or the system refuses.
    pub fn container(&self, name: &str) -> Result<Container, Error> {
        check_name(name)?;
        let netns = format!("{}-c-{name}", self.name());
        self.make_namespace(&netns)?;
        Ok(Container { netns })
    }

    /// Ends a container's processes and removes its namespace.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn remove_container(&self, container: &Container) -> Result<(), Error> {
        remove_namespace(&self.record, &container.netns)
    }

    /// What a power cut does to a host: its processes, its namespace and everything in it are
    /// gone, its cable is new; only its state directory is what it was. Containers it ran are the
    /// caller's to remove.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn reboot(&self, host: &str) -> Result<(), Error> {
        let host = self.host(host)?;
        let config = LabConfig {
            mtu: self.record.mtu,
            ipv6_underlay: host.address.is_ipv6(),
            ..LabConfig::new(self.name())
        };
        remove_namespace(&self.record, &host.netns)?;
        for gone in [host.run_dir(), host.bpf_dir()] {
            clear(&gone).map_err(Error::system(format!("clear {}", gone.display())))?;
        }
        self.wait_for_cable_to_go(&host.name)?;
        self.make_host(host, &config)
    }

    /// A namespace that goes takes its veth ends along, in its own time.
    fn wait_for_cable_to_go(&self, link: &str) -> Result<(), Error> {
        for _ in 0..500 {
            let link = link.to_owned();
            let there = namespace::in_netns(&self.underlay(), move || {
                Ok(nix::net::if_::if_nametoindex(link.as_str()).is_ok())
            });
            if !there.map_err(Error::system("enter the underlay"))? {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Err(Error::system(format!("remove the cable of host {link}"))(
            io::ErrorKind::TimedOut.into(),
        ))
    }

    fn make_namespace(&self, netns: &str) -> Result<(), Error> {
        self.record.note(netns)?;
        namespace::create(netns).inspect_err(|error| {
            // Somebody else's must not be taken down with this lab.
            if matches!(error, Error::Taken(_)) {
                self.record.forget(netns);
            }
        })?;
        inside(netns, "bring the loopback up", || Netlink::open()?.up("lo"))
    }

    fn make_underlay(&self, config: &LabConfig) -> Result<(), Error> {
        let name = self.underlay_name();
        self.make_namespace(&name)?;
        let (mtu, v4) = (config.mtu, !config.ipv6_underlay);
        inside(&name, "make the underlay", move || {
            let netlink = Netlink::open()?;
            netlink.add_bridge("br0", mtu)?;
            if v4 {
                netlink.add_address("br0", GATEWAY_V4.into(), 24)?;
                netlink.add_address("lo", crate::OUTSIDE_V4.into(), 32)?;
                fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
            }
            netlink.add_address("br0", GATEWAY_V6.into(), 64)?;
            netlink.add_address("lo", crate::OUTSIDE_V6.into(), 128)?;
            fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1")?;
            netlink.up("br0")
        })
    }

    /// Two hosts on the ends of one cable.
    fn make_pair(&self, config: &LabConfig) -> Result<(), Error> {
        let [a, b] = self.hosts() else { return Err(Error::Cable(self.hosts().len())) };
        for host in [a, b] {
            make_directories(host, config)?;
            self.make_namespace(&host.netns)?;
        }
        let other = File::open(b.netns_file()).map_err(Error::system("open a namespace"))?;
        let mtu = config.mtu;
        inside(&a.netns, "lay a cable", move || {
            Netlink::open()?.add_veth("eth0", mtu, "eth0", &other)
        })?;
        connect(a, false)?;
        connect(b, false)
    }

    fn make_host(&self, host: &Host, config: &LabConfig) -> Result<(), Error> {
        make_directories(host, config)?;
        self.make_namespace(&host.netns)?;
        let netns = File::open(host.netns_file()).map_err(Error::system("open a namespace"))?;
        let (mtu, cable) = (config.mtu, host.name.clone());
        inside(&self.underlay_name(), "lay a cable", move || {
            let netlink = Netlink::open()?;
            netlink.add_veth(&cable, mtu, "eth0", &netns)?;
            netlink.enslave(&cable, "br0")?;
            netlink.up(&cable)
        })?;
        connect(host, true)
    }
}

fn make_directories(host: &Host, config: &LabConfig) -> Result<(), Error> {
    fs::create_dir_all(host.state_dir())
        .and_then(|()| fs::create_dir_all(host.run_dir()))
        .and_then(|()| match &config.resolv_conf {
            Some(text) => fs::write(host.resolv_conf(), text),
            None => Ok(()),
        })
        .map_err(Error::system(format!("make the directories of host {}", host.name)))
}

/// Gives a host's end of the cable its addresses.
fn connect(host: &Host, gateway: bool) -> Result<(), Error> {
    let (address, address_v6) = (host.address, host.address_v6);
    inside(&host.netns, "connect a host", move || {
        let netlink = Netlink::open()?;
        netlink.up("eth0")?;
        netlink.add_address("eth0", address_v6.into(), 64)?;
        if address.is_ipv4() {
            netlink.add_address("eth0", address, 24)?;
        }
        if !gateway {
            return Ok(());
        }
        netlink.add_default_route(GATEWAY_V6.into())?;
        if address.is_ipv4() {
            netlink.add_default_route(GATEWAY_V4.into())?;
        }
        Ok(())
    })
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.owned
            && let Err(error) = take_down(&self.record)
        {
            eprintln!("lab '{}' was not taken down whole: {error}", self.name());
        }
    }
}

/// Removes a directory with everything in it; one that is not there is fine.
fn clear(directory: &Path) -> io::Result<()> {
    match fs::remove_dir_all(directory) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn inside(
    netns: &str,
    action: &str,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), Error> {
    namespace::in_netns(&namespace::named(netns), work).map_err(Error::system(action))
}

/// Removes everything that is written down, as far as it is there; goes on after failures, so that
/// as much as possible is gone, and tells the first.
fn take_down(record: &Record) -> Result<(), Error> {
    let removed: Vec<Result<(), Error>> =
        record.namespaces().iter().map(|netns| remove_namespace(record, netns)).collect();
    // What is pinned would outlive the links that it was attached to.
    let pins = record.pins();
    let unpinned = clear(&pins).map_err(Error::system(format!("clear {}", pins.display())));
    let ungrouped: Vec<Result<(), Error>> =
        record.hosts.iter().map(docker::remove_cgroups).collect();
    removed.into_iter().chain([unpinned]).chain(ungrouped).collect::<Result<(), Error>>()?;
    record.erase()
}

fn remove_namespace(record: &Record, netns: &str) -> Result<(), Error> {
    process::end_all(&namespace::named(netns))?;
    namespace::remove(netns)?;
    let resolv_conf = resolv_conf_of(netns);
    if resolv_conf.exists() {
        let _ = fs::remove_file(&resolv_conf);
        let _ = resolv_conf.parent().map(fs::remove_dir);
    }
    record.forget(netns);
    Ok(())
}
