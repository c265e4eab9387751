//! Cutting subnets from the cluster's pools.

use ipnet::IpNet;
use weft_model::row::Pool;

use crate::Rejection;
use crate::networks;

/// Whether subnets can be cut from these.
pub(crate) fn check(pools: &[Pool]) -> Result<(), Rejection> {
    pools.iter().try_for_each(|pool| {
        networks::check_prefix("--pool", &pool.prefix)?;
        let sizes = networks::sizes(&pool.prefix);
        if pool.size < pool.prefix.prefix_len() || !sizes.contains(&pool.size) {
            return Err(Rejection::invalid(
                "--pool",
                format!("pool {} cannot be cut into pieces of /{}", pool.prefix, pool.size),
                format!(
                    "pieces may be from /{} to /{}",
                    pool.prefix.prefix_len().max(*sizes.start()),
                    sizes.end()
                ),
            ));
        }
        Ok(())
    })
}

/// The lowest piece of a pool of the wanted family that overlaps with none of `obstacles`.
pub(crate) fn cut(pools: &[Pool], ipv4: bool, obstacles: &[IpNet]) -> Result<IpNet, Rejection> {
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    let of_family = |prefix: &IpNet| prefix.addr().is_ipv4() == ipv4;
    let mut own: Vec<&Pool> = pools.iter().filter(|pool| of_family(&pool.prefix)).collect();
    if own.is_empty() {
        return Err(Rejection::exhausted(
            "--subnet",
            format!("the cluster has no {family} address pool to take a subnet from"),
            format!("give an {family} subnet with --subnet"),
        ));
    }
    own.sort_by_key(|pool| pool.prefix);
    let mut ranges: Vec<(u128, u128)> =
        obstacles.iter().filter(|o| of_family(o)).map(range).collect();
    ranges.sort_unstable();
    let piece = own.iter().find_map(|pool| cut_one(pool, &ranges));
    piece.ok_or_else(|| {
        let names: Vec<String> = own.iter().map(|pool| pool.prefix.to_string()).collect();
        Rejection::exhausted(
            "--subnet",
            format!(
                "no subnet is left in the cluster's {family} address pools ({})",
                names.join(", ")
            ),
            format!("remove a network, or give an {family} subnet with --subnet"),
        )
    })
}

/// Goes up through pool and obstacles side by side; `taken` is sorted.
fn cut_one(pool: &Pool, taken: &[(u128, u128)]) -> Option<IpNet> {
    let (mut first, pool_last) = range(&pool.prefix);
    let host_bits = pool.prefix.max_prefix_len() - pool.size;
    let size_less_one = (1_u128 << host_bits) - 1;
    for &(low, high) in taken {
        if high < first {
            continue;
        }
        if low > first + size_less_one {
            break;
        }
        // To the next piece that begins behind the obstacle.
        first = (high | size_less_one).checked_add(1)?;
    }
    if first > pool_last {
        return None;
    }
    match pool.prefix {
        IpNet::V4(_) => {
            let address = u32::try_from(first).ok()?.to_be_bytes();
            IpNet::new(address.into(), pool.size).ok()
        }
        IpNet::V6(_) => IpNet::new(first.to_be_bytes().into(), pool.size).ok(),
    }
}

/// First and last address as numbers.
fn range(net: &IpNet) -> (u128, u128) {
    match net {
        IpNet::V4(n) => (u32::from(n.network()).into(), u32::from(n.broadcast()).into()),
        IpNet::V6(n) => (n.network().into(), n.broadcast().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn pool(prefix: &str, size: u8) -> Pool {
        Pool { prefix: prefix.parse().unwrap(), size }
    }

    #[test]
    fn takes_the_lowest_free_piece_around_obstacles_of_any_size() {
        let pools = [pool("10.0.0.0/22", 24)];
        for (obstacles, piece) in [
            (&[][..], Some("10.0.0.0/24")),
            (&["10.0.0.0/24"], Some("10.0.1.0/24")),
            (&["10.0.0.128/25"], Some("10.0.1.0/24")),
            (&["10.0.0.0/23"], Some("10.0.2.0/24")),
            (&["10.0.1.0/24", "10.0.0.0/30"], Some("10.0.2.0/24")),
            (&["10.0.1.0/24"], Some("10.0.0.0/24")),
            (&["9.0.0.0/8", "fd00::/8"], Some("10.0.0.0/24")),
            (&["10.0.0.0/23", "10.0.0.0/24", "10.0.2.7/32"], Some("10.0.3.0/24")),
            (&["10.0.0.0/8"], None),
            (&["10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", "10.0.3.0/24"], None),
            (&["0.0.0.0/0"], None),
        ] {
            let got = cut(&pools, true, &nets(obstacles)).ok();
            assert_eq!(got, piece.map(|p| p.parse().unwrap()), "around {obstacles:?}");
        }
    }

    #[test]
    fn goes_on_to_the_next_pool_and_keeps_families_apart() {
        let pools = [pool("fd00::/63", 64), pool("10.1.0.0/24", 24), pool("10.0.0.0/24", 24)];
        let cut = |ipv4, obstacles: &[&str]| cut(&pools, ipv4, &nets(obstacles));
        assert_eq!(cut(true, &["10.0.0.0/24"]).unwrap().to_string(), "10.1.0.0/24");
        assert_eq!(cut(false, &["fd00::/64"]).unwrap().to_string(), "fd00:0:0:1::/64");
        let none = cut(true, &["10.0.0.0/15"]).unwrap_err();
        assert_eq!(
            none.message,
            "no subnet is left in the cluster's IPv4 address pools (10.0.0.0/24, 10.1.0.0/24)"
        );
    }

    #[test]
    fn the_end_of_the_address_space_is_no_trap() {
        let pools = [pool("ffff:ffff:ffff:fffe::/63", 64)];
        let all = nets(&["ffff:ffff:ffff:fffe::/64", "ffff:ffff:ffff:ffff::/64"]);
        assert!(cut(&pools, false, &all).is_err());
        assert!(cut(&pools, false, &all[..1]).is_ok());
    }
}
