//! In which order steps are taken, and which of them may go out together.

use weft_kernel::object::{Link, LinkKind};
use weft_kernel::{Key, Object, ShortcutKey, Step};

/// When a step's turn is. Steps of one turn do not depend on each other, so they may go out as
/// one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// A deletion that makes room for a put, the last created first.
    MakeRoom(u8),
    /// A put, in the order of creation.
    Put(u8),
    /// Any other deletion, the last created first: after the puts, so that the old way stays
    /// open until the new one is.
    Delete(u8),
}

/// A step and its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) turn: Turn,
    pub(crate) step: Step,
}

/// The order of creation of [`Key`], and within one kind of key what depends on what.
pub(crate) fn put_rank(key: &Key, object: &Object) -> u8 {
    match (key, object) {
        (Key::Table(_), _) => 0,
        (Key::Set(..), _) => 1,
        (Key::Element(..), _) => 2,
        // A chain without a hook is there to be jumped to.
        (Key::Chain(..), Object::Chain(chain)) if chain.hook.is_none() => 3,
        (Key::Chain(..), _) => 4,
        (Key::Link(..), Object::Link(Link { kind: LinkKind::VethPeer, .. })) => 7,
        (Key::Link(..), Object::Link(Link { port: Some(_), .. })) => 6,
        (Key::Link(..), _) => 5,
        (Key::DeviceChain(..), _) => 8,
        // Forwarding makes the kernel forget routers it learnt from advertisements, unless the
        // uplink has been told to keep listening.
        (Key::Sysctl(_, path), _) if switches_forwarding(path) => 10,
        (Key::Sysctl(..), _) => 9,
        (Key::Address(..), _) => 11,
        (Key::Up(..), _) => 12,
        // A next hop may be reached through another route.
        (Key::Route(..), Object::Route(route)) if route.via.is_none() => 13,
        (Key::Route(..), _) => 14,
        (Key::Neighbour(..), _) => 15,
        (Key::Fdb(..), _) => 16,
        (Key::Flood(..), _) => 17,
        (Key::ForeignRule(..), _) => 18,
        (Key::Shortcut(key), _) => match key {
            // Before the bridge path's own sets: what it lets in, the shortcut must not drop.
            ShortcutKey::Node
            | ShortcutKey::Vtep(_)
            | ShortcutKey::Member(..)
            | ShortcutKey::Neighbour(..)
            | ShortcutKey::Fdb(..) => 1,
            ShortcutKey::Granted(..) => 19,
            ShortcutKey::Endpoint(_) => 20,
            ShortcutKey::Program(..) => 21,
        },
    }
}

/// The way back. A device's chain goes after the device, so that no frame passes unfiltered: on
/// some kernels it has gone with it by then, on others (since 6.16) it has stayed.
pub(crate) fn delete_rank(key: &Key, object: &Object) -> u8 {
    let created = match key {
        Key::DeviceChain(..) => 5,
        Key::Table(_) | Key::Set(..) | Key::Element(..) | Key::Chain(..) => put_rank(key, object),
        _ => put_rank(key, object) + 1,
    };
    30 - created
}

/// Whether this is a switch of forwarding.
pub(crate) fn switches_forwarding(path: &str) -> bool {
    path.ends_with("/forwarding") || path.ends_with("/ip_forward")
}
