//! What is compared: the ways between two ends.

use clap::ValueEnum;
use serde::Serialize;

/// A way between two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Variant {
    /// Two hosts without firewall rules and without an overlay.
    Bare,
    /// Two hosts with the rules that Docker installs, no overlay.
    BareRules,
    /// A VXLAN device of the kernel on each host, no bridge, no containers.
    Vxlan,
    /// Containers on Docker's overlay network.
    DockerOverlay,
    /// Containers on Weft, without the shortcut.
    WeftBridge,
    /// Containers on Weft.
    WeftShortcut,
    /// Two containers of one host on a bridge network of Docker.
    LocalDocker,
    /// Two containers of one host on Weft, without the shortcut.
    LocalWeftBridge,
    /// Two containers of one host on Weft.
    LocalWeft,
    /// Weft with 10 endpoints on a third host.
    #[value(name = "known-10")]
    #[serde(rename = "known-10")]
    Known10,
    /// Weft with 1,000 endpoints on a third host.
    #[value(name = "known-1000")]
    #[serde(rename = "known-1000")]
    Known1000,
    /// Weft with 100,000 endpoints on a third host.
    #[value(name = "known-100000")]
    #[serde(rename = "known-100000")]
    Known100000,
}

/// What is compared with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Group {
    /// From host to host.
    Hosts,
    /// Within one host.
    Local,
    /// From host to host, with more and more to know.
    Known,
}

/// How Weft's daemons are to be set for a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shortcut {
    Off,
    Auto,
}

impl Shortcut {
    /// As the daemon reads it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
        }
    }
}

impl Variant {
    /// All of them.
    pub(crate) fn all() -> &'static [Self] {
        Self::value_variants()
    }

    /// As in the report and on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default()
    }

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Bare => "bare hosts",
            Self::BareRules => "bare hosts, Docker's rules",
            Self::Vxlan => "kernel VXLAN",
            Self::DockerOverlay => "Docker overlay",
            Self::WeftBridge | Self::LocalWeftBridge => "Weft, bridge path",
            Self::WeftShortcut | Self::LocalWeft => "Weft, shortcut",
            Self::LocalDocker => "Docker bridge",
            Self::Known10 => "10 known",
            Self::Known1000 => "1,000 known",
            Self::Known100000 => "100,000 known",
        }
    }

    pub(crate) const fn group(self) -> Group {
        match self {
            Self::LocalDocker | Self::LocalWeftBridge | Self::LocalWeft => Group::Local,
            Self::Known10 | Self::Known1000 | Self::Known100000 => Group::Known,
            _ => Group::Hosts,
        }
    }

    /// How many endpoints of a third host are known.
    pub(crate) const fn known(self) -> Option<u32> {
        match self {
            Self::Known10 => Some(10),
            Self::Known1000 => Some(1_000),
            Self::Known100000 => Some(100_000),
            _ => None,
        }
    }

    /// Needs hosts on which nothing else runs.
    pub(crate) const fn on_plain_hosts(self) -> bool {
        matches!(self, Self::Bare | Self::Vxlan)
    }

    /// Needs hosts that run Docker and Weft.
    pub(crate) const fn on_docker_hosts(self) -> bool {
        !self.on_plain_hosts() && self.known().is_none()
    }

    /// How the daemons are to be set; `None`: it does not matter.
    pub(crate) const fn shortcut(self) -> Option<Shortcut> {
        match self {
            Self::WeftBridge | Self::LocalWeftBridge => Some(Shortcut::Off),
            Self::WeftShortcut
            | Self::LocalWeft
            | Self::Known10
            | Self::Known1000
            | Self::Known100000 => Some(Shortcut::Auto),
            _ => None,
        }
    }
}

/// The order of one turn: every turn begins with another variant, and those that need the daemons
/// as they are come before those that need them set otherwise, so that a turn sets them once.
pub(crate) fn order(variants: &[Variant], turn: usize, now: Option<Shortcut>) -> Vec<Variant> {
    let mut order = variants.to_vec();
    if !order.is_empty() {
        let begin = turn % order.len();
        order.rotate_left(begin);
    }
    let places: Vec<usize> = (0..order.len()).filter(|i| order[*i].shortcut().is_some()).collect();
    let mut weft: Vec<Variant> = places.iter().map(|i| order[*i]).collect();
    weft.sort_by_key(|variant| variant.shortcut() != now);
    for (place, variant) in places.into_iter().zip(weft) {
        order[place] = variant;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: [Variant; 4] =
        [Variant::Bare, Variant::DockerOverlay, Variant::WeftBridge, Variant::WeftShortcut];

    #[test]
    fn every_turn_begins_elsewhere_and_leaves_nobody_out() {
        for turn in 0..8 {
            let mut sorted = order(&HOSTS, turn, None);
            sorted.sort();
            assert_eq!(sorted, HOSTS);
        }
        assert_eq!(order(&HOSTS, 0, None)[0], Variant::Bare);
        assert_eq!(order(&HOSTS, 1, None)[0], Variant::DockerOverlay);
        assert!(order(&[], 3, None).is_empty());
    }

    #[test]
    fn the_daemons_are_set_once_a_turn() {
        for turn in 0..8 {
            for now in [Shortcut::Off, Shortcut::Auto] {
                let wanted: Vec<Shortcut> =
                    order(&HOSTS, turn, Some(now)).iter().filter_map(|v| v.shortcut()).collect();
                assert_eq!(wanted[0], now, "turn {turn}");
                assert_ne!(wanted[1], now, "turn {turn}");
            }
        }
    }

    #[test]
    fn every_variant_lives_somewhere_and_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<String> =
            Variant::all().iter().map(|v| v.name()).collect();
        assert_eq!(names.len(), Variant::all().len());
        for variant in Variant::all() {
            let homes =
                [variant.on_plain_hosts(), variant.on_docker_hosts(), variant.known().is_some()];
            assert_eq!(homes.iter().filter(|h| **h).count(), 1, "{variant:?}");
        }
    }
}
