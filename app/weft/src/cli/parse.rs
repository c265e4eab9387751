//! Readers of single values: each says what was wrong and what would be right.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use weft_model::{Name, TokenId};

/// A prefix whose host bits are zero.
pub(super) fn subnet(text: &str) -> Result<IpNet, String> {
    let net: IpNet = text
        .parse()
        .map_err(|_| format!("'{text}' is not a range of addresses: write it as 10.3.0.0/24"))?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("'{text}' is an address inside of a range: the range is {}", net.trunc()))
    }
}

/// `CIDR,LENGTH`, given on as it is.
pub(super) fn pool(text: &str) -> Result<String, String> {
    let wrong = || format!("'{text}' is not a pool: write it as 10.64.0.0/12,24");
    let (prefix, length) = text.split_once(',').ok_or_else(wrong)?;
    let prefix = subnet(prefix)?;
    let length: u8 = length.parse().map_err(|_| wrong())?;
    if length < prefix.prefix_len() || length > prefix.max_prefix_len() - 2 {
        return Err(format!(
            "networks of length /{length} cannot be cut from {prefix}: choose {} to {}",
            prefix.prefix_len(),
            prefix.max_prefix_len() - 2
        ));
    }
    Ok(text.to_owned())
}

/// Where the cluster state lies.
pub(super) fn engine(text: &str) -> Result<String, String> {
    match text {
        "embedded" => Ok(text.to_owned()),
        other if other.starts_with("etcd://") => {
            Err("this version keeps the cluster state in a file on the server: 'embedded'".into())
        }
        other => Err(format!("'{other}' is not an engine: use 'embedded'")),
    }
}

/// The default port of a server may be left out; a host name may not be given, because names must
/// not go through the host's NSS.
pub(super) fn server_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return if address.port() == 0 {
            Err("port 0 cannot be reached".into())
        } else {
            Ok(address)
        };
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, super::config::PORT)).map_err(|_| {
        format!("'{text}' is not an address: write it as 172.10.0.15:7373 or [fd00:10::15]:7373")
    })
}

/// `KEY=VALUE`.
pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(format!("'{text}' has no key: write it as KEY=VALUE"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// An identifier of a token: the part of it before the dot is one, too.
pub(super) fn token_id(text: &str) -> Result<String, String> {
    text.parse::<TokenId>().map(|id| id.to_string()).map_err(|e| e.to_string())
}

/// An address, with the network it is for if there are several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) network: Option<Name>,
    pub(super) ip: IpAddr,
}

/// `[NETWORK=]IP`.
pub(super) fn address(text: &str) -> Result<Address, String> {
    let (network, ip) = match text.split_once('=') {
        Some((network, ip)) => (Some(network.parse::<Name>().map_err(|e| e.to_string())?), ip),
        None => (None, text),
    };
    let ip = ip.parse().map_err(|_| format!("'{ip}' is not an IP address"))?;
    Ok(Address { network, ip })
}

/// A number with a unit: ms, s, m, h or d.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("'{text}' is not a length of time: write it as 500ms, 30s, 15m, 24h or 7d");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    let total = number.checked_mul(milliseconds).filter(|t| *t > 0).ok_or_else(wrong)?;
    Ok(Duration::from_millis(total))
}

/// How long to wait for others: at most 10 s.
pub(super) fn wait(text: &str) -> Result<Duration, String> {
    let wait = duration(text)?;
    if wait > Duration::from_secs(10) {
        return Err(format!("'{text}' is too long: at most 10s"));
    }
    Ok(wait)
}

/// A lab's name becomes part of interface and namespace names.
pub(super) fn lab_name(text: &str) -> Result<String, String> {
    weft_lab::check_name(text).map(|()| text.to_owned()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_has_no_host_bits() {
        assert_eq!(subnet("10.3.0.0/24").unwrap().to_string(), "10.3.0.0/24");
        assert_eq!(
            subnet("10.3.0.1/24").unwrap_err(),
            "'10.3.0.1/24' is an address inside of a range: the range is 10.3.0.0/24"
        );
        for wrong in ["10.3.0.0", "10.3.0.0/33", "10.3.0/24", "fd00::/129", "", "web"] {
            assert!(subnet(wrong).unwrap_err().contains("is not a range"), "{wrong}");
        }
    }

    #[test]
    fn a_pool_is_a_range_and_a_length_within_it() {
        assert_eq!(pool("10.64.0.0/12,24").unwrap(), "10.64.0.0/12,24");
        assert_eq!(pool("fd57::/48,64").unwrap(), "fd57::/48,64");
        for wrong in ["10.64.0.0/12", "10.64.0.0/12,8", "10.64.0.0/12,31", "10.64.0.1/12,24", ",24"]
        {
            assert!(pool(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_is_an_address_with_or_without_port() {
        assert_eq!(server_address("172.10.0.15").unwrap().to_string(), "172.10.0.15:7373");
        assert_eq!(server_address("172.10.0.15:1").unwrap().to_string(), "172.10.0.15:1");
        assert_eq!(server_address("fd00:10::15").unwrap().to_string(), "[fd00:10::15]:7373");
        assert_eq!(server_address("[fd00:10::15]:9").unwrap().to_string(), "[fd00:10::15]:9");
        for wrong in ["host:7373", "172.10.0.15:0", "172.10.0.15:x", "", "172.10.0.256:7373"] {
            assert!(server_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn times_have_units() {
        assert_eq!(duration("500ms").unwrap(), Duration::from_millis(500));
        assert_eq!(duration("7d").unwrap(), Duration::from_secs(7 * 86_400));
        for wrong in ["", "5", "0s", "-1s", "1w", "ms", "99999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        assert!(wait("11s").is_err());
    }

    #[test]
    fn an_address_may_name_its_network() {
        assert_eq!(address("10.3.0.5").unwrap().network, None);
        assert_eq!(address("web=10.3.0.5").unwrap().network, Some("web".parse().unwrap()));
        for wrong in ["10.3.0.256", "web=", "=10.3.0.5", "10.3.0.0/24"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
