//! `ip("…")`: an address, a range of addresses or a network, looked for in a text.

use std::net::IpAddr;

/// What addresses are looked for: from the first to the last, both of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IpMatcher {
    first: IpAddr,
    last: IpAddr,
}

const INVALID: &str = "ip: invalid pattern";

impl IpMatcher {
    /// `10.0.0.1`, `10.0.0.1-10.0.0.9`, `10.0.0.0/8` and the same for IPv6.
    ///
    /// # Errors
    /// Anything else.
    pub(super) fn new(pattern: &str) -> Result<Self, String> {
        let invalid = || format!("{INVALID} ({pattern})");
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| invalid());
        if let Some((first, last)) = pattern.split_once('-') {
            let (first, last) = (address(first)?, address(last)?);
            if first.is_ipv4() != last.is_ipv4() || first > last {
                return Err(invalid());
            }
            return Ok(Self { first, last });
        }
        let Some((base, bits)) = pattern.split_once('/') else {
            let only = address(pattern)?;
            return Ok(Self {
                first: only,
                last: only,
            });
        };
        let bits: u32 = bits.parse().map_err(|_| invalid())?;
        match address(base)? {
            IpAddr::V4(base) if bits <= 32 => {
                let host = u32::MAX.checked_shr(bits).unwrap_or(0);
                let base = u32::from(base) & !host;
                Ok(Self {
                    first: IpAddr::V4(base.into()),
                    last: IpAddr::V4((base | host).into()),
                })
            }
            IpAddr::V6(base) if bits <= 128 => {
                let host = u128::MAX.checked_shr(bits).unwrap_or(0);
                let base = u128::from(base) & !host;
                Ok(Self {
                    first: IpAddr::V6(base.into()),
                    last: IpAddr::V6((base | host).into()),
                })
            }
            _ => Err(invalid()),
        }
    }

    fn has(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// Whether `text` holds one of the addresses.
    pub(super) fn is_in(&self, text: &[u8]) -> bool {
        let is_v4 = |b: &u8| b.is_ascii_digit() || *b == b'.';
        let is_v6 = |b: &u8| b.is_ascii_hexdigit() || *b == b':' || *b == b'.';
        let mut at = 0;
        while at < text.len() {
            let rest = &text[at..];
            if !is_v6(&rest[0]) {
                at += 1;
                continue;
            }
            let begins = |within: usize, mark: u8| rest.iter().take(within).any(|b| *b == mark);
            let length = if rest[0].is_ascii_digit() && begins(4, b'.') {
                rest.iter().take_while(|b| is_v4(b)).count()
            } else if begins(5, b':') {
                rest.iter().take_while(|b| is_v6(b)).count()
            } else {
                at += 1;
                continue;
            };
            let candidate = std::str::from_utf8(&rest[..length]).unwrap_or("");
            let trimmed = candidate.trim_end_matches('.');
            if trimmed.parse().is_ok_and(|address| self.has(address)) {
                return true;
            }
            at += length.max(1);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_in_lines() {
        let found =
            |pattern: &str, line: &str| IpMatcher::new(pattern).unwrap().is_in(line.as_bytes());
        assert!(found("192.168.1.0/24", "src 192.168.1.10:80 ok"));
        assert!(!found("192.168.1.0/24", "src 10.0.0.9 ok"));
        assert!(!found("10.0.0.0/8", "no ip here, 10.0.0.300"));
        assert!(found("192.168.1.1-192.168.1.9", "x=192.168.1.5."));
        assert!(found("2001:db8::/32", "[2001:db8::1]"));
        assert!(found("::1", "at ::1"));
        assert!(found("0.0.0.0/0", "1.2.3.4"));
        for bad in [
            "",
            "notanip",
            "10.0.0.0/33",
            "10.0.0.9-10.0.0.1",
            "10.0.0.1-::1",
        ] {
            assert!(IpMatcher::new(bad).is_err(), "{bad}");
        }
    }
}
