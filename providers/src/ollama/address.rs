//! The server's address, as people write it.

/// The port it listens on.
const PORT: u16 = 11_434;

/// `OLLAMA_HOST` and its like as an address: `0.0.0.0`, `:8080`, `box:11434`, `https://box/ollama`. What a server
/// listens on is no address to call: any address is this machine. A path of an API is the wire's own business.
pub(super) fn read(written: &str) -> String {
    let written = written.trim().trim_matches(['"', '\'']).trim_end_matches('/');
    let (scheme, rest) = written.split_once("://").unwrap_or(("", written));
    let (place, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    // A colon inside of brackets is a part of the address.
    let colon = place.rfind(':').filter(|at| {
        !place[*at..].contains(']') && place[..*at].matches(':').count() == 0 || place[..*at].ends_with(']')
    });
    let (host, port) = match colon {
        Some(at) => (&place[..at], place[at + 1..].parse().ok()),
        None => (place, None),
    };
    let host = match host {
        "" | "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" | "[::]" => "[::1]".to_owned(),
        host if host.contains(':') && !host.starts_with('[') => format!("[{host}]"),
        host => host.to_owned(),
    };
    // With a scheme, its own port is meant.
    let port = port.or(scheme.is_empty().then_some(PORT));
    let scheme = if scheme.is_empty() { "http" } else { scheme };
    let port = port.map_or(String::new(), |port| format!(":{port}"));
    let path = path
        .strip_suffix("/v1")
        .or_else(|| path.strip_suffix("/api"))
        .unwrap_or(path);
    format!("{scheme}://{host}{port}{path}")
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn addresses_are_understood_as_people_write_them() {
        for (written, address) in [
            ("localhost", "http://localhost:11434"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            (":8080", "http://127.0.0.1:8080"),
            ("box:11434/", "http://box:11434"),
            ("http://box:11434/v1/", "http://box:11434"),
            ("http://box:11434/api", "http://box:11434"),
            ("https://box/ollama", "https://box/ollama"),
            ("http://box", "http://box"),
            ("box/ollama", "http://box:11434/ollama"),
            ("[::]:9", "http://[::1]:9"),
            ("[fe80::1]", "http://[fe80::1]:11434"),
            ("fe80::1", "http://[fe80::1]:11434"),
            (" \"10.0.0.7\" ", "http://10.0.0.7:11434"),
        ] {
            assert_eq!(read(written), address, "{written}");
        }
    }
}
