//! The authority of a request: the value of `Host`, or the authority in its target (RFC 3986 3.2).

/// Returns true if and only if `text` is a non-empty host with an optional port and without user
/// information (RFC 3986 3.2.2). A comma, which the grammar allows in a name, is refused: it is usually
/// two hosts that a proxy joined.
pub(super) fn is_host_and_port(text: &[u8]) -> bool {
    let (host_is_good, rest) = match text.strip_prefix(b"[") {
        Some(inner) => match memchr::memchr(b']', inner) {
            Some(end) => (is_ip_literal(&inner[..end]), &inner[end + 1..]),
            None => return false,
        },
        None => {
            let end = name_end(text);
            (end > 0, &text[end..])
        }
    };
    host_is_good
        && match rest {
            [] => true,
            [b':', port @ ..] => port.len() <= 5 && port.iter().all(u8::is_ascii_digit),
            _ => false,
        }
}

/// Returns the end of the name at the start of `text`: unreserved characters, sub-delims without the
/// comma, and percent-encoded bytes with two hex digits each.
fn name_end(text: &[u8]) -> usize {
    let mut end = 0;
    loop {
        end += match text[end..] {
            [byte, ..] if is_plain(byte) => 1,
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => 3,
            _ => return end,
        };
    }
}

/// Unreserved characters, and sub-delims without the comma.
fn is_plain(byte: u8) -> bool {
    IS_PLAIN[usize::from(byte)]
}

/// A table, since the host of every request is checked.
const IS_PLAIN: [bool; 256] = {
    let mut is_plain = [false; 256];
    let mut byte = 0_u8;
    while byte < u8::MAX {
        is_plain[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(
                byte,
                b'-' | b'.'
                    | b'_'
                    | b'~'
                    | b'!'
                    | b'$'
                    | b'&'
                    | b'\''
                    | b'('
                    | b')'
                    | b'*'
                    | b'+'
                    | b';'
                    | b'='
            );
        byte += 1;
    }
    is_plain
};

/// Checks the text in brackets: an IPv6 address, or an address of a future version.
fn is_ip_literal(text: &[u8]) -> bool {
    if let [b'v' | b'V', rest @ ..] = text {
        let Some(dot) = memchr::memchr(b'.', rest) else { return false };
        let (version, address) = (&rest[..dot], &rest[dot + 1..]);
        return !version.is_empty()
            && version.iter().all(u8::is_ascii_hexdigit)
            && !address.is_empty()
            && address.iter().all(|&byte| byte == b':' || is_plain(byte));
    }
    str::from_utf8(text).is_ok_and(|text| text.parse::<std::net::Ipv6Addr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses_with_an_optional_port() {
        for good in [
            "a",
            "example.com:80",
            "127.0.0.1:8080",
            "[::1]",
            "[::1]:80",
            "[::ffff:127.0.0.1]",
            "[1:2:3:4:5:6:7::]",
            "[v1f.a:b]:80",
            "a:",
            "xn--a_b",
            "a%20b",
            "%C3%bc",
        ] {
            assert!(is_host_and_port(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            ":80",
            "a b",
            "a,b",
            "a/b",
            "u@a",
            "a:b",
            "a:1:2",
            "a:123456",
            "[::1",
            "[]",
            "[::1]x",
            "ü",
            "[zz]",
            "[a]",
            "[1::2::3]",
            "[1:2:3]",
            "[127.0.0.1]",
            "[::g]",
            "[fe80::1%25eth0]",
            "[v.a]",
            "[v1.]",
            "[vg.a]",
            "[v1]",
            "a%zz",
            "a%2",
            "a%",
            "%",
            "[::1]]",
            "::1",
            "a\u{7f}",
        ] {
            assert!(!is_host_and_port(bad.as_bytes()), "{bad:?}");
        }
        for byte in 0..=u8::MAX {
            let is_good = byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=:".contains(&byte);
            assert_eq!(is_host_and_port(&[b'a', byte]), is_good, "{byte:#x}");
        }
    }
}
