//! Whose request it is, by address: for throttling, the audit log and the log.
//!
//! In: the address of the other end of the connection, the headers, the trusted proxies. Out: one address.
//! Invariant: what a header says counts only as far as trusted proxies vouch for it, read from the right.

use http::HeaderMap;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

use crate::header_names::X_FORWARDED_FOR;

/// The client's address. In a request's extensions once `logging::logged` has seen it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ClientAddress(pub IpAddr);

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many hops of `X-Forwarded-For` are looked at.
const HOPS_MAX: usize = 16;

/// Whether `address` is one of the trusted proxies. An IPv4 address mapped into IPv6 counts as itself.
pub fn is_trusted_proxy(address: IpAddr, trusted_proxies: &[IpNet]) -> bool {
    let address = address.to_canonical();
    trusted_proxies.iter().any(|network| network.contains(&address))
}

/// The client's address: `peer`, unless that is a trusted proxy that names another one in `X-Forwarded-For`.
///
/// Each proxy adds the address it sees at the right, so the list is read from the right for as long as the addresses
/// are trusted proxies. What stands left of the first other one was written by strangers.
pub fn client_address(peer: IpAddr, headers: &HeaderMap, trusted_proxies: &[IpNet]) -> ClientAddress {
    let mut client = peer.to_canonical();
    if !is_trusted_proxy(client, trusted_proxies) {
        return ClientAddress(client);
    }
    // Several lines of the header are one list (RFC 9110 section 5.3).
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
    for hop in hops.take(HOPS_MAX) {
        let Some(address) = parse_hop(hop.trim()) else { break };
        client = address.to_canonical();
        if !is_trusted_proxy(client, trusted_proxies) {
            break;
        }
    }
    ClientAddress(client)
}

/// An address as proxies write it: bare, with a port, or in brackets.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    if let Ok(address) = hop.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = hop.parse::<std::net::SocketAddr>() {
        return Some(address.ip());
    }
    hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        client_address(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn a_stranger_can_not_choose_his_address() {
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, 203.0.113.9"]), "203.0.113.9");
        assert_eq!(client("10.0.0.1", &["198.51.100.1", "203.0.113.9"]), "203.0.113.9");
    }

    #[test]
    fn a_chain_of_trusted_proxies_is_followed_to_its_first_stranger() {
        assert_eq!(client("10.0.0.1", &["198.51.100.1, 203.0.113.9, 10.0.0.2"]), "203.0.113.9");
        assert_eq!(client("::ffff:10.0.0.1", &["203.0.113.9:4711"]), "203.0.113.9");
        assert_eq!(client("fd00::1", &["[2001:db8::7]:443, fd00::2"]), "2001:db8::7");
    }

    #[test]
    fn without_a_readable_header_the_last_known_address_counts() {
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &["unknown, 10.0.0.3"]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &["203.0.113.9, unknown"]), "10.0.0.1");
    }
}
