//! How the daemon is set up. Four layers, each over the one before: what is built in,
//! `/etc/weft/weft.toml`, the environment (`WEFT_…`), and flags.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Deserializer};

use super::parse;
use super::problem::Problem;

/// The port servers listen on (TCP); 7946 is Docker's.
pub(crate) const PORT: u16 = weft_rpc::SERVER_PORT;

/// Where the file is looked for when nobody says otherwise.
const FILE: &str = "/etc/weft/weft.toml";

/// How the daemon is set up, with nothing left open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DaemonConfig {
    /// What must survive a reboot: identity, last view, leases, attachments, cluster state.
    pub(crate) state_dir: PathBuf,
    /// What must not: sockets, the resolver's table.
    pub(crate) run_dir: PathBuf,
    /// Where the command line and front doors find the daemon.
    pub(crate) socket: PathBuf,
    /// Where a server listens for nodes (TCP). The unspecified IPv6 address takes in IPv4 as well.
    pub(crate) listen: SocketAddr,
    /// UDP port of VXLAN, the same on all nodes.
    pub(crate) vxlan_port: u16,
    /// Where other hosts send containers' packets, unless `init` or `join` said otherwise.
    pub(crate) data_address: Option<IpAddr>,
    /// Where metrics are served (HTTP); `None`: nowhere.
    pub(crate) metrics: Option<SocketAddr>,
    /// What to log, in the words of `tracing_subscriber::EnvFilter`: `info`, `weft=debug,warn` …
    pub(crate) log: String,
    /// Log lines as JSON.
    pub(crate) log_json: bool,
    /// How long the certificates of nodes are good for.
    pub(crate) certificate_lifetime: Duration,
    /// Where the host's own name servers are written (`resolv.conf(5)`): names of the outside go there.
    pub(crate) resolv_conf: PathBuf,
    /// Whether containers' packets may take the shortcut.
    pub(crate) shortcut: ShortcutSetting,
    /// Where the shortcut's programs and tables are pinned, in a directory per node.
    pub(crate) bpf_dir: PathBuf,
    /// Where Docker finds its network driver `weft`; `None`: nowhere.
    pub(crate) docker_plugin: Option<PathBuf>,
    /// Where the API of this host's Docker engine is.
    pub(crate) docker_socket: PathBuf,
    /// Where the root directory of the engine is seen.
    pub(crate) docker_root: PathBuf,
    /// Mounts of this process are nobody else's.
    pub(crate) own_mounts: bool,
}

/// Whether containers' packets may take the shortcut past bridge and VXLAN device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ShortcutSetting {
    /// Where the kernel can; else the bridge path, and `weft status` says why
    #[default]
    Auto,
    /// All packets go the bridge path
    Off,
    /// As on kernels before 6.6
    Clsact,
}

impl Default for DaemonConfig {
    fn default() -> Self {
        Self {
            state_dir: "/var/lib/weft".into(),
            run_dir: "/run/weft".into(),
            socket: "/run/weft/weft.sock".into(),
            listen: SocketAddr::from((Ipv6Addr::UNSPECIFIED, PORT)),
            vxlan_port: 4789,
            data_address: None,
            metrics: Some(SocketAddr::from(([127, 0, 0, 1], 7374))),
            log: "info".into(),
            log_json: false,
            certificate_lifetime: Duration::from_secs(90 * 86_400),
            resolv_conf: "/etc/resolv.conf".into(),
            shortcut: ShortcutSetting::Auto,
            bpf_dir: "/sys/fs/bpf/weft".into(),
            docker_plugin: Some("/run/docker/plugins/weft.sock".into()),
            docker_socket: "/run/docker.sock".into(),
            docker_root: "/".into(),
            own_mounts: false,
        }
    }
}

/// The daemon's flags and environment.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct DaemonArgs {
    /// The file with settings [default: /etc/weft/weft.toml, if it is there]
    #[arg(long, env = "WEFT_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    /// What survives a reboot lies here [default: /var/lib/weft]
    #[arg(long, env = "WEFT_STATE_DIR", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Sockets lie here [default: /run/weft]
    #[arg(long, env = "WEFT_RUN_DIR", value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// Where a server listens for other hosts [default: [::]:7373]
    #[arg(long, env = "WEFT_LISTEN", value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// UDP port of VXLAN, the same on all hosts [default: 4789]
    #[arg(long, env = "WEFT_VXLAN_PORT", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    vxlan_port: Option<u16>,
    /// Where other hosts send containers' packets [default: the address of the default route]
    #[arg(long, env = "WEFT_DATA_ADDRESS", value_name = "IP")]
    data_address: Option<IpAddr>,
    /// Where metrics are served, or `off` [default: 127.0.0.1:7374]
    #[arg(long, env = "WEFT_METRICS", value_name = "ADDR:PORT", value_parser = metrics)]
    metrics: Option<Metrics>,
    /// What to log: error, warn, info, debug or trace, also per module [default: info]
    #[arg(long, env = "WEFT_LOG", value_name = "FILTER")]
    log: Option<String>,
    /// Log as JSON
    #[arg(long, env = "WEFT_LOG_JSON", num_args = 0..=1, default_missing_value = "true")]
    log_json: Option<bool>,
    /// How long the certificates of hosts are good for [default: 90d]
    #[arg(long, env = "WEFT_CERTIFICATE_LIFETIME", hide = true, value_name = "TIME", value_parser = parse::duration)]
    certificate_lifetime: Option<Duration>,
    /// Where the host's own name servers are written [default: /etc/resolv.conf]
    #[arg(long, env = "WEFT_RESOLV_CONF", value_name = "PATH")]
    resolv_conf: Option<PathBuf>,
    /// Whether packets may take the shortcut past bridge and VXLAN device [default: auto]
    #[arg(long, env = "WEFT_SHORTCUT", value_enum, value_name = "SETTING")]
    shortcut: Option<ShortcutSetting>,
    /// Where programs and tables of the shortcut are pinned [default: /sys/fs/bpf/weft]
    #[arg(long, env = "WEFT_BPF_DIR", hide = true, value_name = "DIR")]
    bpf_dir: Option<PathBuf>,
    /// Where Docker finds its network driver, or `off` [default: /run/docker/plugins/weft.sock]
    #[arg(long, env = "WEFT_DOCKER_PLUGIN", value_name = "PATH", value_parser = plugin)]
    docker_plugin: Option<DockerPlugin>,
    /// Where the API of this host's Docker engine is [default: /run/docker.sock]
    #[arg(long, env = "WEFT_DOCKER_SOCKET", value_name = "PATH")]
    docker_socket: Option<PathBuf>,
    /// Where the engine's root directory is seen, if it has mounts of its own [default: /]
    #[arg(long, env = "WEFT_DOCKER_ROOT", hide = true, value_name = "DIR")]
    docker_root: Option<PathBuf>,
    /// A container runtime gave this process mounts of its own: its sysctls are made writable there
    #[arg(long, hide = true)]
    own_mounts: bool,
}

/// The file. Unknown keys are refused: a misspelt one must not be silently without effect.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    state_dir: Option<PathBuf>,
    run_dir: Option<PathBuf>,
    socket: Option<PathBuf>,
    listen: Option<SocketAddr>,
    #[serde(default, deserialize_with = "port")]
    vxlan_port: Option<u16>,
    data_address: Option<IpAddr>,
    #[serde(default, deserialize_with = "metrics_word")]
    metrics: Option<Metrics>,
    log: Option<String>,
    log_json: Option<bool>,
    #[serde(default, deserialize_with = "duration_word")]
    certificate_lifetime: Option<Duration>,
    resolv_conf: Option<PathBuf>,
    shortcut: Option<ShortcutSetting>,
    bpf_dir: Option<PathBuf>,
    #[serde(default, deserialize_with = "plugin_word")]
    docker_plugin: Option<DockerPlugin>,
    docker_socket: Option<PathBuf>,
    docker_root: Option<PathBuf>,
}

/// An absolute path, or `off`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct DockerPlugin(Option<PathBuf>);

fn plugin(text: &str) -> Result<DockerPlugin, String> {
    match text {
        "off" => Ok(DockerPlugin(None)),
        path if path.starts_with('/') && path.ends_with(".sock") => {
            Ok(DockerPlugin(Some(path.into())))
        }
        _ => Err(format!("'{text}' is neither the path of a socket (/…/NAME.sock) nor 'off'")),
    }
}

fn plugin_word<'de, D: Deserializer<'de>>(d: D) -> Result<Option<DockerPlugin>, D::Error> {
    let text = String::deserialize(d)?;
    plugin(&text).map(Some).map_err(serde::de::Error::custom)
}

/// An address, or `off`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Metrics(Option<SocketAddr>);

fn metrics(text: &str) -> Result<Metrics, String> {
    if text == "off" {
        return Ok(Metrics(None));
    }
    text.parse()
        .map(|address| Metrics(Some(address)))
        .map_err(|_| format!("'{text}' is neither an address with a port nor 'off'"))
}

fn metrics_word<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Metrics>, D::Error> {
    let text = String::deserialize(d)?;
    metrics(&text).map(Some).map_err(serde::de::Error::custom)
}

fn duration_word<'de, D: Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(d)?;
    parse::duration(&text).map(Some).map_err(serde::de::Error::custom)
}

fn port<'de, D: Deserializer<'de>>(d: D) -> Result<Option<u16>, D::Error> {
    std::num::NonZeroU16::deserialize(d).map(|port| Some(port.get()))
}

impl DaemonConfig {
    /// Puts the layers on top of each other. `socket` is the flag or variable all commands share.
    pub(crate) fn load(args: &DaemonArgs, socket: Option<PathBuf>) -> Result<Self, Problem> {
        let path = args.config.as_deref();
        let file = match std::fs::read_to_string(path.unwrap_or(Path::new(FILE))) {
            Ok(text) => read(&text, path.unwrap_or(Path::new(FILE)))?,
            // Only the file nobody asked for may be absent.
            Err(e) if path.is_none() && e.kind() == ErrorKind::NotFound => File::default(),
            Err(error) => {
                let path = path.unwrap_or(Path::new(FILE)).display();
                return Err(Problem::new(format!("{path}: {error}")).at("--config"));
            }
        };
        Ok(Self::layered(args.clone(), socket, file))
    }

    fn layered(args: DaemonArgs, socket: Option<PathBuf>, file: File) -> Self {
        let built_in = Self::default();
        let run_dir = args.run_dir.or(file.run_dir).unwrap_or(built_in.run_dir);
        Self {
            state_dir: args.state_dir.or(file.state_dir).unwrap_or(built_in.state_dir),
            socket: socket.or(file.socket).unwrap_or_else(|| run_dir.join("weft.sock")),
            run_dir,
            listen: args.listen.or(file.listen).unwrap_or(built_in.listen),
            vxlan_port: args.vxlan_port.or(file.vxlan_port).unwrap_or(built_in.vxlan_port),
            data_address: args.data_address.or(file.data_address),
            metrics: args.metrics.or(file.metrics).map_or(built_in.metrics, |m| m.0),
            log: args.log.or(file.log).unwrap_or(built_in.log),
            log_json: args.log_json.or(file.log_json).unwrap_or(built_in.log_json),
            certificate_lifetime: args
                .certificate_lifetime
                .or(file.certificate_lifetime)
                .unwrap_or(built_in.certificate_lifetime),
            resolv_conf: args.resolv_conf.or(file.resolv_conf).unwrap_or(built_in.resolv_conf),
            shortcut: args.shortcut.or(file.shortcut).unwrap_or(built_in.shortcut),
            bpf_dir: args.bpf_dir.or(file.bpf_dir).unwrap_or(built_in.bpf_dir),
            docker_plugin: args
                .docker_plugin
                .or(file.docker_plugin)
                .map_or(built_in.docker_plugin, |plugin| plugin.0),
            docker_socket: args
                .docker_socket
                .or(file.docker_socket)
                .unwrap_or(built_in.docker_socket),
            docker_root: args.docker_root.or(file.docker_root).unwrap_or(built_in.docker_root),
            own_mounts: args.own_mounts,
        }
    }
}

/// Reads the file's text; an error names the key and shows its line.
fn read(text: &str, path: &Path) -> Result<File, Problem> {
    toml::from_str(text).map_err(|error| {
        Problem::new(format!("{}: {}", path.display(), error.to_string().trim_end()))
            .hint("the keys are the daemon's flags with '_' for '-': see `weft daemon --help`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<File, String> {
        read(text, Path::new("weft.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn nothing_said_is_the_default() {
        let config = DaemonConfig::layered(DaemonArgs::default(), None, file("").unwrap());
        assert_eq!(config, DaemonConfig::default());
        assert_eq!(config.shortcut, ShortcutSetting::Auto);
        assert_eq!(config.bpf_dir, Path::new("/sys/fs/bpf/weft"));
    }

    #[test]
    fn a_setting_of_the_shortcut_is_one_of_three_words() {
        use clap::Parser;
        #[derive(Parser)]
        struct Flags {
            #[command(flatten)]
            daemon: DaemonArgs,
        }
        let read = |word| Flags::try_parse_from(["weft", "--shortcut", word]);
        for (word, setting) in [
            ("auto", ShortcutSetting::Auto),
            ("off", ShortcutSetting::Off),
            ("clsact", ShortcutSetting::Clsact),
        ] {
            assert_eq!(read(word).map(|f| f.daemon.shortcut).ok(), Some(Some(setting)));
        }
        let error = read("on").err().map(|e| e.to_string()).unwrap_or_default();
        assert!(
            error.starts_with("error: invalid value 'on' for '--shortcut <SETTING>'\n  [possible values: auto, off, clsact]\n"),
            "{error}"
        );
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let file = || {
            let text = "state_dir = '/a'\nvxlan_port = 4790\nmetrics = 'off'\nrun_dir = '/r'\n\
                        shortcut = 'off'\nbpf_dir = '/p'\ndocker_plugin = 'off'\n";
            file(text).unwrap()
        };
        let from_file = DaemonConfig::layered(DaemonArgs::default(), None, file());
        assert_eq!(from_file.state_dir, Path::new("/a"));
        assert_eq!((from_file.vxlan_port, from_file.metrics), (4790, None));
        assert_eq!(from_file.docker_plugin, None);
        assert_eq!(from_file.socket, Path::new("/r/weft.sock"));
        assert_eq!(
            (from_file.shortcut, from_file.bpf_dir.as_path()),
            (ShortcutSetting::Off, Path::new("/p"))
        );
        let args = DaemonArgs {
            state_dir: Some("/b".into()),
            shortcut: Some(ShortcutSetting::Auto),
            metrics: Some(metrics("127.0.0.1:1").unwrap()),
            ..DaemonArgs::default()
        };
        let flagged = DaemonConfig::layered(args, Some("/s".into()), file());
        assert_eq!(flagged.state_dir, Path::new("/b"));
        assert_eq!(flagged.metrics, Some("127.0.0.1:1".parse().unwrap()));
        assert_eq!(flagged.socket, Path::new("/s"));
        assert_eq!((flagged.vxlan_port, flagged.shortcut), (4790, ShortcutSetting::Auto));
    }

    #[test]
    fn what_is_wrong_in_the_file_is_named() {
        for (text, named) in [
            ("state_dri = '/a'", "state_dri"),
            ("vxlan_port = 0", "vxlan_port = 0"),
            ("vxlan_port = 70000", "vxlan_port = 70000"),
            ("listen = 'here'", "listen = 'here'"),
            ("metrics = 'on'", "'on' is neither an address with a port nor 'off'"),
            ("certificate_lifetime = '3'", "'3' is not a length of time"),
            ("data_address = '172.10.0'", "data_address = '172.10.0'"),
            ("shortcut = 'on'", "unknown variant `on`, expected one of `auto`, `off`, `clsact`"),
            ("shortcut = true", "shortcut = true"),
            (
                "docker_plugin = 'on'",
                "'on' is neither the path of a socket (/…/NAME.sock) nor 'off'",
            ),
        ] {
            let error = file(text).unwrap_err();
            assert!(error.contains(named) && error.contains("weft.toml"), "{text}: {error}");
        }
    }
}
