//! How long an address is shut out that shows bad credentials, and what an address is.
//!
//! Good keys of the same address go on working: a stranger behind the same NAT must not lock the
//! others out, and secrets of 256 bits are not guessed however often one tries. What is throttled is
//! the noise: once an address is shut out, nothing more is written down of it.

use std::net::IpAddr;

use crate::limits::{ACCESS_BLOCK_MAX_MS, ACCESS_BLOCK_MS};

/// How long the next time is, after so many before: 30 s, doubling up to 15 min.
#[must_use]
pub fn block_ms(before: i64) -> i64 {
    let doubled = u32::try_from(before).ok().and_then(|n| ACCESS_BLOCK_MS.checked_shl(n.min(30)));
    doubled.unwrap_or(ACCESS_BLOCK_MAX_MS).min(ACCESS_BLOCK_MAX_MS)
}

/// What is counted together: an IPv4 address, or the /64 of an IPv6 one, which one household or
/// machine has to itself.
#[must_use]
pub fn address(ip: Option<IpAddr>) -> String {
    match ip.map(|ip| ip.to_canonical()) {
        None => "unknown".to_owned(),
        Some(IpAddr::V4(ip)) => ip.to_string(),
        Some(IpAddr::V6(ip)) if ip.is_loopback() => ip.to_string(),
        Some(IpAddr::V6(ip)) => {
            let [a, b, c, d, ..] = ip.segments();
            format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_doubles_up_to_a_quarter_of_an_hour() {
        let seconds = [0, 1, 2, 3, 4, 5, 6, 40, i64::MAX].map(|n| block_ms(n) / 1_000);
        assert_eq!(seconds, [30, 60, 120, 240, 480, 900, 900, 900, 900]);
    }

    #[test]
    fn one_address_has_one_name() {
        for (ip, name) in [
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
            ("::1", "::1"),
            ("2001:db8:1:2:aaaa::1", "2001:db8:1:2::/64"),
            ("2001:db8:1:2:bbbb::2", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(address(ip.parse().ok()), name);
        }
        assert_eq!(address(None), "unknown");
    }
}
