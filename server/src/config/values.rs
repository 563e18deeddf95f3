//! The types that a setting can have, and how each is written.
//!
//! One spelling serves the command line, the environment and the file, so each type is read from
//! text. Errors say what was expected, without the key: the caller knows where the text came from.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// A type that a setting can have.
pub trait SettingValue: Sized {
    /// What the documentation calls the type.
    const KIND: &'static str;
    /// Whether a flag of this type may stand without a value, and what it then means.
    const FLAG_ALONE: Option<&'static str> = None;

    /// Reads the value.
    ///
    /// # Errors
    /// What was expected, in words for whoever wrote the text.
    fn parse(text: &str) -> Result<Self, String>;
}

impl SettingValue for PathBuf {
    const KIND: &'static str = "path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("expected a path".into());
        }
        Ok(Self::from(text))
    }
}

impl SettingValue for Option<PathBuf> {
    const KIND: &'static str = "path";

    fn parse(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| PathBuf::from(text)))
    }
}

impl SettingValue for u32 {
    const KIND: &'static str = "number";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| format!("expected a whole number up to {}", Self::MAX))
    }
}

impl SettingValue for u64 {
    const KIND: &'static str = "number";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "expected a whole number, 0 or more".into())
    }
}

/// `on` or `off`.
impl SettingValue for bool {
    const KIND: &'static str = "on/off";
    const FLAG_ALONE: Option<&'static str> = Some("on");

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "on" | "true" | "yes" => Ok(true),
            "off" | "false" | "no" => Ok(false),
            _ => Err("expected on or off".into()),
        }
    }
}

/// Words separated by commas.
impl SettingValue for Vec<String> {
    const KIND: &'static str = "list";

    fn parse(text: &str) -> Result<Self, String> {
        let words = text.split(',').map(str::trim).filter(|w| !w.is_empty());
        Ok(words.map(str::to_owned).collect())
    }
}

/// A span of time: `15d`, `1h30m`, `500ms`, or `0`.
impl SettingValue for Duration {
    const KIND: &'static str = "duration";

    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text)
            .ok_or_else(|| "expected a duration such as 15d, 1h30m, 10s or 500ms".into())
    }
}

/// Reads Prometheus' notation: units `y w d h m s ms`, from large to small, each at most once.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, u64); 7] = [
        ("y", 365 * 86_400_000),
        ("w", 7 * 86_400_000),
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1_000),
        ("ms", 1),
    ];
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut total_ms = 0_u64;
    let mut units_left = &UNITS[..];
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        rest = rest.get(digits..)?;
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let unit = rest.get(..letters)?;
        rest = rest.get(letters..)?;
        let index = units_left.iter().position(|(name, _)| *name == unit)?;
        let (_, unit_ms) = units_left.get(index)?;
        total_ms = total_ms.checked_add(number.checked_mul(*unit_ms)?)?;
        units_left = units_left.get(index + 1..)?;
    }
    Some(Duration::from_millis(total_ms))
}

/// A number of bytes: `2GiB`, `512MiB`, `1GB`, or a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    /// The number, as far as this machine can count.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl SettingValue for ByteSize {
    const KIND: &'static str = "size";

    fn parse(text: &str) -> Result<Self, String> {
        const UNITS: [(&str, u64); 11] = [
            ("", 1),
            ("B", 1),
            ("KiB", 1 << 10),
            ("MiB", 1 << 20),
            ("GiB", 1 << 30),
            ("TiB", 1 << 40),
            ("KB", 1_000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
            ("PiB", 1 << 50),
        ];
        let expected = || "expected a size such as 512MiB, 2GiB or 1000000".to_owned();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| expected())?;
        let (_, factor) = UNITS
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))
            .ok_or_else(expected)?;
        number.checked_mul(*factor).map(Self).ok_or_else(expected)
    }
}

/// Where to listen: `host:port`, or `off`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Not at all.
    Off,
    /// At this address; port 0 lets the system choose.
    At(String),
}

impl SettingValue for Listen {
    const KIND: &'static str = "address or off";

    fn parse(text: &str) -> Result<Self, String> {
        // YAML turns a bare `off` into a truth value.
        if matches!(text, "off" | "false" | "no") {
            return Ok(Self::Off);
        }
        let expected = || "expected host:port, such as 127.0.0.1:9009, or off".to_owned();
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        port.parse::<u16>().map_err(|_| expected())?;
        if host.is_empty() {
            return Ok(Self::At(format!("0.0.0.0:{port}")));
        }
        Ok(Self::At(text.to_owned()))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => f.write_str(address),
        }
    }
}

/// When a write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// After it is on the medium.
    Always,
    /// At once; synced every interval, so a power loss costs at most that much.
    Interval,
    /// At once; the operating system writes when it likes.
    Off,
}

impl SettingValue for Sync {
    const KIND: &'static str = "always/interval/off";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "interval" => Ok(Self::Interval),
            "off" | "false" => Ok(Self::Off),
            _ => Err("expected always, interval or off".into()),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl SettingValue for LogFormat {
    const KIND: &'static str = "text/json";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("expected text or json".into()),
        }
    }
}

impl SettingValue for String {
    const KIND: &'static str = "text";

    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_prometheus_writes_them() {
        let cases = [
            ("15d", Some(15 * 86_400_000)),
            ("1h30m", Some(5_400_000)),
            ("500ms", Some(500)),
            ("1m500ms", Some(60_500)),
            ("0", Some(0)),
            ("", None),
            ("15", None),
            ("d", None),
            ("30m1h", None),
            ("1h1h", None),
            ("-1h", None),
            ("99999999999999999999y", None),
            ("999999999999y", None),
        ];
        for (text, expected) in cases {
            let got = parse_duration(text);
            assert_eq!(got, expected.map(Duration::from_millis), "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_and_decimal_units() {
        for (text, expected) in [
            ("2GiB", Some(2 << 30)),
            ("2gib", Some(2 << 30)),
            ("1GB", Some(1_000_000_000)),
            ("17", Some(17)),
            ("512 MiB", Some(512 << 20)),
            ("GiB", None),
            ("1XiB", None),
            ("99999999TiB", None),
        ] {
            assert_eq!(ByteSize::parse(text).ok().map(|s| s.0), expected, "{text}");
        }
    }

    #[test]
    fn listeners_are_addresses_or_off() {
        assert_eq!(Listen::parse("off"), Ok(Listen::Off));
        assert_eq!(Listen::parse(":80"), Ok(Listen::At("0.0.0.0:80".into())));
        assert!(Listen::parse("[::1]:0").is_ok());
        for bad in ["localhost", "x:99999", "x:", ""] {
            assert!(Listen::parse(bad).is_err(), "{bad}");
        }
    }
}
