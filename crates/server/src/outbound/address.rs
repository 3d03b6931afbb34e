//! Which addresses an admin's URL may lead to (rule 5; conformance.md S1, S2).
//!
//! In: one address. Out: public or not. Never here: names, the operator's list, sockets.
//! Invariant: IPv6 counts only inside 2000::/3, and whatever carries an IPv4 address inside is judged by that too.

use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IPv4 networks that nobody's public provider lives in: IANA's special-purpose registry, multicast, the reserved
/// rest, and the Azure host's address.
pub(super) const REFUSED_V4: [Ipv4Net; 20] = [
    v4(0, 0, 0, 0, 8),
    v4(10, 0, 0, 0, 8),
    v4(100, 64, 0, 0, 10),
    v4(127, 0, 0, 0, 8),
    v4(168, 63, 129, 16, 32),
    v4(169, 254, 0, 0, 16),
    v4(172, 16, 0, 0, 12),
    v4(192, 0, 0, 0, 24),
    v4(192, 0, 2, 0, 24),
    v4(192, 31, 196, 0, 24),
    v4(192, 52, 193, 0, 24),
    v4(192, 88, 99, 0, 24),
    v4(192, 168, 0, 0, 16),
    v4(192, 175, 48, 0, 24),
    v4(198, 18, 0, 0, 15),
    v4(198, 51, 100, 0, 24),
    v4(203, 0, 113, 0, 24),
    v4(224, 0, 0, 0, 4),
    v4(240, 0, 0, 0, 4),
    v4(255, 255, 255, 255, 32),
];

/// The only IPv6 space that is given out for the public internet.
const GLOBAL_V6: Ipv6Net = v6(0x2000 << 112, 3);

/// What is special inside 2000::/3: Teredo, benchmarking, ORCHID and DRIP; documentation; 6to4; AS112.
pub(super) const REFUSED_V6: [Ipv6Net; 5] = [
    v6(0x2001 << 112, 23),
    v6(0x2001_0db8 << 96, 32),
    v6(0x2002 << 112, 16),
    v6(0x2620_004f_8000 << 80, 48),
    v6(0x3fff << 112, 20),
];

const fn v4(a: u8, b: u8, c: u8, d: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length)
}

const fn v6(address: u128, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::from_bits(address), length)
}

/// Whether this is an ordinary public address.
///
/// Forms that wrap an IPv4 address (mapped, translated, compatible, NAT64, 6to4, Teredo) are refused whatever they
/// wrap: no provider is published under one. ISATAP looks like an ordinary address and is judged by its inside.
pub fn judge_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => judge_v4(address),
        IpAddr::V6(address) => {
            GLOBAL_V6.contains(&address)
                && !REFUSED_V6.iter().any(|network| network.contains(&address))
                && isatap_inside(address).is_none_or(judge_v4)
        }
    }
}

fn judge_v4(address: Ipv4Addr) -> bool {
    !REFUSED_V4.iter().any(|network| network.contains(&address))
}

/// The IPv4 address in an ISATAP interface identifier (RFC 5214 section 6.1), with the universal bit or without.
fn isatap_inside(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [.., e, f, g, h] = address.segments();
    (e & !0x0300 == 0 && f == 0x5efe).then(|| Ipv4Addr::from_bits((u32::from(g) << 16) | u32::from(h)))
}

/// A network's own NAT64 prefix: through it the whole of IPv4 can be reached under public-looking addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Nat64(Ipv6Net);

/// Where RFC 6052 section 2.2 puts the four octets, by the prefix's length.
const NAT64_PLACES: [(u8, [usize; 4]); 6] = [
    (32, [4, 5, 6, 7]),
    (40, [5, 6, 7, 9]),
    (48, [6, 7, 9, 10]),
    (56, [7, 9, 10, 11]),
    (64, [9, 10, 11, 12]),
    (96, [12, 13, 14, 15]),
];

impl Nat64 {
    /// Reads the prefix from the IPv6 address that this network gave `ipv4only.arpa` (RFC 7050 section 3): that name
    /// has only the IPv4 addresses 192.0.0.170 and 192.0.0.171.
    pub(super) fn found_in(answer: Ipv6Addr) -> Option<Self> {
        let known = |inside: Ipv4Addr| matches!(inside.octets(), [192, 0, 0, 170 | 171]);
        NAT64_PLACES
            .iter()
            .rev()
            .find(|(_, places)| octets_at(answer, places).is_some_and(known))
            .and_then(|(length, _)| Ipv6Net::new(answer, *length).ok())
            .map(|network| Self(network.trunc()))
    }

    /// Whether `address` leads through this translator to an IPv4 address that is not public.
    pub(super) fn hides_refused(self, address: IpAddr) -> bool {
        let IpAddr::V6(address) = address else { return false };
        self.0.contains(&address)
            && NAT64_PLACES
                .iter()
                .find(|(length, _)| *length == self.0.prefix_len())
                .and_then(|(_, places)| octets_at(address, places))
                .is_none_or(|inside| !judge_v4(inside))
    }
}

fn octets_at(address: Ipv6Addr, places: &[usize; 4]) -> Option<Ipv4Addr> {
    let octets = address.octets();
    let [a, b, c, d] = places.map(|place| octets.get(place).copied());
    Some(Ipv4Addr::new(a?, b?, c?, d?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn s1_each_special_ipv4_network_is_refused_from_its_first_to_its_last_address() {
        // network, and a public neighbour just outside it (or nothing, where another refused network touches it).
        let table = [
            ("0.0.0.0", "0.255.255.255", &["1.0.0.0"][..]),
            ("10.0.0.0", "10.255.255.255", &["9.255.255.255", "11.0.0.0"]),
            ("100.64.0.0", "100.127.255.255", &["100.63.255.255", "100.128.0.0"]),
            ("100.100.100.200", "100.100.100.200", &[]),
            ("127.0.0.0", "127.255.255.255", &["126.255.255.255", "128.0.0.0"]),
            ("168.63.129.16", "168.63.129.16", &["168.63.129.15", "168.63.129.17"]),
            ("169.254.0.0", "169.254.255.255", &["169.253.255.255", "169.255.0.0"]),
            ("169.254.169.254", "169.254.170.23", &[]),
            ("172.16.0.0", "172.31.255.255", &["172.15.255.255", "172.32.0.0"]),
            ("192.0.0.0", "192.0.0.255", &["191.255.255.255", "192.0.1.0"]),
            ("192.0.2.0", "192.0.2.255", &["192.0.1.255", "192.0.3.0"]),
            ("192.31.196.0", "192.31.196.255", &["192.31.195.255", "192.31.197.0"]),
            ("192.52.193.0", "192.52.193.255", &["192.52.192.255", "192.52.194.0"]),
            ("192.88.99.0", "192.88.99.255", &["192.88.98.255", "192.88.100.0"]),
            ("192.168.0.0", "192.168.255.255", &["192.167.255.255", "192.169.0.0"]),
            ("192.175.48.0", "192.175.48.255", &["192.175.47.255", "192.175.49.0"]),
            ("198.18.0.0", "198.19.255.255", &["198.17.255.255", "198.20.0.0"]),
            ("198.51.100.0", "198.51.100.255", &["198.51.99.255", "198.51.101.0"]),
            ("203.0.113.0", "203.0.113.255", &["203.0.112.255", "203.0.114.0"]),
            ("224.0.0.0", "239.255.255.255", &["223.255.255.255"]),
            ("240.0.0.0", "255.255.255.255", &[]),
        ];
        for (first, last, outside) in table {
            assert!(!judge_address(address(first)), "{first}");
            assert!(!judge_address(address(last)), "{last}");
            for neighbour in outside {
                assert!(judge_address(address(neighbour)), "{neighbour}");
            }
        }
    }

    #[test]
    fn s2_each_special_ipv6_network_is_refused_from_its_first_to_its_last_address() {
        let full = "ffff:ffff:ffff:ffff:ffff:ffff";
        let table = [
            ("::", "::1", &[][..]),
            ("::7f00:1", "::8.8.8.8", &[]),
            ("::ffff:0:0", "::ffff:255.255.255.255", &[]),
            ("::ffff:8.8.8.8", "::ffff:127.0.0.1", &[]),
            ("::ffff:0:0:0", "::ffff:0:8.8.8.8", &[]),
            ("64:ff9b::", "64:ff9b::8.8.8.8", &[]),
            ("64:ff9b:1::", "64:ff9b:1:ffff:ffff:ffff:ffff:ffff", &[]),
            ("100::", "100::ffff:ffff:ffff:ffff", &[]),
            ("100:0:0:1::", "100:0:0:1:ffff:ffff:ffff:ffff", &[]),
            ("2001::", &format!("2001:1ff:{full}"), &["2001:200::", "2000:ffff::"]),
            ("2001:2::", "2001:2:0:ffff::1", &[]),
            ("2001:10::", "2001:3f::1", &[]),
            ("2001:db8::", &format!("2001:db8:{full}"), &["2001:db7:ffff::1", "2001:db9::"]),
            ("2002::", &format!("2002:ffff:{full}"), &["2003::"]),
            ("2002:7f00:1::", "2002:808:808::", &[]),
            (
                "2620:4f:8000::",
                "2620:4f:8000:ffff:ffff:ffff:ffff:ffff",
                &["2620:4f:7fff::1", "2620:4f:8001::"],
            ),
            ("3fff::", &format!("3fff:fff:{full}"), &["3ffe:ffff::1", "3fff:1000::"]),
            ("4000::", &format!("1fff:ffff:{full}"), &["2000::", "3fff:ffff::1"]),
            ("5f00::", &format!("5f00:ffff:{full}"), &[]),
            ("fc00::", &format!("fdff:ffff:{full}"), &[]),
            ("fd00:ec2::254", "fd20:ce::254", &[]),
            ("fe80::", &format!("febf:ffff:{full}"), &[]),
            ("fec0::", &format!("feff:ffff:{full}"), &[]),
            ("ff00::", &format!("ffff:ffff:{full}"), &[]),
        ];
        for (first, last, outside) in table {
            assert!(!judge_address(address(first)), "{first}");
            assert!(!judge_address(address(last)), "{last}");
            for neighbour in outside {
                assert!(judge_address(address(neighbour)), "{neighbour}");
            }
        }
        assert!(judge_address(address("2606:4700::6810:84e5")));
    }

    #[test]
    fn s2_an_isatap_address_is_judged_by_the_ipv4_address_inside() {
        for refused in
            ["2606:4700::5efe:10.0.0.1", "2606:4700::200:5efe:127.0.0.1", "2606:4700::300:5efe:a9fe:a9fe"]
        {
            assert!(!judge_address(address(refused)), "{refused}");
        }
        assert!(judge_address(address("2606:4700::5efe:8.8.8.8")));
        assert!(judge_address(address("2606:4700::1:5efe:10.0.0.1")), "another identifier");
    }

    #[test]
    fn s2_a_nat64_prefix_of_each_length_is_found_and_what_it_hides_is_refused() {
        let table = [
            ("2606:4700:c000:aa::", "2606:4700:a00:1::", "2606:4700:808:808::"),
            ("2606:4700:ffc0:0:aa::", "2606:4700:ff0a:0:1::", "2606:4700:ff08:808:8::"),
            ("2606:4700:1:c000:0:aa00::", "2606:4700:1:a00:0:100::", "2606:4700:1:808:8:800::"),
            ("2606:4700:1:ffc0:0:aa::", "2606:4700:1:ff0a:0:1::", "2606:4700:1:ff08:8:808::"),
            ("2606:4700:1:2:c0:0:aa00:0", "2606:4700:1:2:a:0:100:0", "2606:4700:1:2:8:808:800:0"),
            ("2606:4700:1:2:3:4:c000:ab", "2606:4700:1:2:3:4:a00:1", "2606:4700:1:2:3:4:808:808"),
        ];
        for (told, hidden, public) in table {
            let prefix = Nat64::found_in(told.parse().unwrap()).unwrap_or_else(|| panic!("{told}"));
            assert!(prefix.hides_refused(address(hidden)), "{hidden}");
            assert!(!prefix.hides_refused(address(public)), "{public}");
            assert!(!prefix.hides_refused(address("2a00::1")), "outside the prefix");
        }
        assert_eq!(Nat64::found_in("2606:4700::1".parse().unwrap()), None);
    }
}
