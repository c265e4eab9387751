//! What may be asked of a network at its making, read from Docker's words.

use std::collections::BTreeMap;

use ipnet::IpNet;
use weft_docker::plugin::{CreateNetwork, IpamData};

use super::book::{Which, Wish};
use super::pools::{SPACE, Token, gateway_of};

/// Docker's own word for the MTU, which people use with every driver.
const MTU: &str = "com.docker.network.driver.mtu";

/// Reads what was asked for.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn read(request: &CreateNetwork) -> Result<Wish, String> {
    let mut settings = request.options.clone();
    let mtu = settings.remove("mtu").or_else(|| settings.remove(MTU)).map(|text| mtu(&text));
    let allow_overlap = flag(&mut settings, "allow-overlap")?;
    if settings.contains_key("encrypted") {
        return Err("-o encrypted: encryption is not offered yet; leave it out".to_owned());
    }
    if let Some(unknown) = settings.keys().next() {
        return Err(format!(
            "-o {unknown}: there is no such option; there are mtu and allow-overlap"
        ));
    }
    Ok(Wish {
        which: which(request)?,
        internal: request.internal,
        mtu: mtu.transpose()?,
        allow_overlap,
    })
}

fn mtu(text: &str) -> Result<u16, String> {
    text.parse()
        .map_err(|_| format!("-o mtu: '{text}' is not a number of octets from 576 to 65535"))
}

fn flag(settings: &mut BTreeMap<String, String>, name: &str) -> Result<bool, String> {
    match settings.remove(name).as_deref() {
        None | Some("false") => Ok(false),
        Some("" | "true") => Ok(true),
        Some(other) => Err(format!("-o {name}: '{other}' is neither true nor false")),
    }
}

fn which(request: &CreateNetwork) -> Result<Which, String> {
    let all = || request.ipv4.iter().chain(&request.ipv6);
    if all().next().is_none() || all().any(|data| data.address_space != SPACE) {
        return Err(
            "Weft gives out the addresses of its networks itself, so that no two hosts give \
                    out the same: add --ipam-driver weft"
                .to_owned(),
        );
    }
    if let Some(name) = all().find_map(|data| data.aux.keys().next()) {
        return Err(format!(
            "--aux-address {name}: Weft leases addresses to hosts and keeps none free; leave it out"
        ));
    }
    match (request.ipv4.as_slice(), request.ipv6.as_slice()) {
        ([one], []) => match one.gateway.and_then(Token::of_gateway) {
            Some(token) if one.pool.prefix_len() == 0 => Ok(Which::ByName(token)),
            _ => Ok(Which::Subnets(vec![subnet(one)?])),
        },
        ([v4], [_]) if v4.pool.prefix_len() == 0 => {
            Err("--ipv6: give the IPv4 subnet as well, with \
                                                          another --subnet"
                .to_owned())
        }
        ([v4], [v6]) => Ok(Which::Subnets(vec![subnet(v4)?, subnet(v6)?])),
        ([], [v6]) => Ok(Which::Subnets(vec![subnet(v6)?])),
        _ => Err("--subnet: a network has at most one IPv4 and one IPv6 subnet; create another \
                  network for more"
            .to_owned()),
    }
}

fn subnet(data: &IpamData) -> Result<IpNet, String> {
    let subnet = data.pool;
    if subnet.trunc() != subnet {
        return Err(format!(
            "--subnet: {subnet} has host bits set; did you mean {}?",
            subnet.trunc()
        ));
    }
    let first = gateway_of(subnet);
    match data.gateway {
        Some(gateway) if Some(gateway.addr()) != first => Err(wrong_gateway(subnet)),
        _ => Ok(subnet),
    }
}

/// The gateway is no matter of choice.
pub(super) fn wrong_gateway(subnet: IpNet) -> String {
    let first = gateway_of(subnet).map(|address| address.to_string()).unwrap_or_default();
    format!("--gateway: it is the subnet's first address on every host, {first}; leave it out")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn data(pool: &str, gateway: &str) -> IpamData {
        IpamData {
            address_space: SPACE.to_owned(),
            pool: pool.parse().unwrap(),
            gateway: (!gateway.is_empty()).then(|| gateway.parse().unwrap()),
            aux: BTreeMap::new(),
        }
    }

    fn request(
        ipv4: Vec<IpamData>,
        ipv6: Vec<IpamData>,
        options: &[(&str, &str)],
    ) -> CreateNetwork {
        let options = options.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        CreateNetwork { id: "n".to_owned(), options, internal: false, ipv4, ipv6 }
    }

    #[test]
    fn networks_are_told_by_subnets_or_by_name() {
        let v4 = || vec![data("10.3.0.0/24", "10.3.0.1/24")];
        let v6 = || vec![data("fd00:3::/64", "")];
        let which = |ipv4, ipv6| read(&request(ipv4, ipv6, &[])).unwrap().which;
        let nets =
            |texts: &[&str]| Which::Subnets(texts.iter().map(|t| t.parse().unwrap()).collect());
        assert_eq!(which(v4(), vec![]), nets(&["10.3.0.0/24"]));
        assert_eq!(which(v4(), v6()), nets(&["10.3.0.0/24", "fd00:3::/64"]));
        assert_eq!(which(vec![], v6()), nets(&["fd00:3::/64"]));
        let by_name = vec![data("0.0.0.0/0", "0.18.52.86/0")];
        assert_eq!(which(by_name, vec![]), Which::ByName(Token::new(0x12_3456)));
    }

    #[test]
    fn options_are_read() {
        let v4 = || vec![data("10.3.0.0/24", "")];
        let wish = read(&request(v4(), vec![], &[("mtu", "1400"), ("allow-overlap", "")])).unwrap();
        assert_eq!((wish.mtu, wish.allow_overlap), (Some(1400), true));
        let wish =
            read(&request(v4(), vec![], &[(MTU, "9000"), ("allow-overlap", "false")])).unwrap();
        assert_eq!((wish.mtu, wish.allow_overlap), (Some(9000), false));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_to_do() {
        let v4 = || vec![data("10.3.0.0/24", "")];
        let refused = |request| read(&request).unwrap_err();
        let options = |options: &[(&str, &str)]| refused(request(v4(), vec![], options));
        assert_eq!(
            options(&[("mtu", "x")]),
            "-o mtu: 'x' is not a number of octets from 576 to 65535"
        );
        assert_eq!(
            options(&[("colour", "red")]),
            "-o colour: there is no such option; there are mtu and allow-overlap"
        );
        assert_eq!(
            options(&[("allow-overlap", "maybe")]),
            "-o allow-overlap: 'maybe' is neither true nor false"
        );
        assert!(options(&[("encrypted", "")]).contains("not offered yet"));
        let dockers =
            IpamData { address_space: "LocalDefault".to_owned(), ..data("10.3.0.0/24", "") };
        assert!(refused(request(vec![dockers], vec![], &[])).contains("add --ipam-driver weft"));
        assert!(refused(request(vec![], vec![], &[])).contains("add --ipam-driver weft"));
        let gateway = vec![data("10.3.0.0/24", "10.3.0.254/24")];
        assert_eq!(
            refused(request(gateway, vec![], &[])),
            "--gateway: it is the subnet's first address on every host, 10.3.0.1; leave it out"
        );
        let two = vec![data("10.3.0.0/24", ""), data("10.4.0.0/24", "")];
        assert!(
            refused(request(two, vec![], &[])).contains("at most one IPv4 and one IPv6 subnet")
        );
        let half =
            request(vec![data("0.0.0.0/0", "0.18.52.86/0")], vec![data("fd00:3::/64", "")], &[]);
        assert!(refused(half).starts_with("--ipv6: give the IPv4 subnet as well"));
        let bits = vec![data("10.3.0.5/24", "")];
        assert!(refused(request(bits, vec![], &[])).contains("did you mean 10.3.0.0/24?"));
        let mut aux = data("10.3.0.0/24", "");
        aux.aux.insert("dns".to_owned(), "10.3.0.2/24".parse().unwrap());
        assert!(refused(request(vec![aux], vec![], &[])).starts_with("--aux-address dns:"));
    }
}
