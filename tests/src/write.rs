//! Remote write bodies.

use crate::http::{Answer, Client};

/// The headers of a remote write 1.0 request.
pub const HEADERS: &[(&str, &str)] = &[
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// Appends a varint.
pub fn varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length-delimited field.
pub fn bytes(out: &mut Vec<u8>, field: u32, payload: &[u8]) {
    varint(out, u64::from(field) << 3 | 2);
    varint(out, payload.len() as u64);
    out.extend_from_slice(payload);
}

/// Appends a varint field.
pub fn number(out: &mut Vec<u8>, field: u32, value: u64) {
    varint(out, u64::from(field) << 3);
    varint(out, value);
}

/// Appends a double field.
pub fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    varint(out, u64::from(field) << 3 | 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// A series of a 1.0 request, ready to be a field 1 of it.
pub fn series(labels: &[(&str, &str)], samples: &[(f64, i64)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in labels {
        let mut label = Vec::new();
        bytes(&mut label, 1, name.as_bytes());
        bytes(&mut label, 2, value.as_bytes());
        bytes(&mut out, 1, &label);
    }
    for (value, time_ms) in samples {
        let mut sample = Vec::new();
        double(&mut sample, 1, *value);
        number(&mut sample, 2, *time_ms as u64);
        bytes(&mut out, 2, &sample);
    }
    out
}

/// A 1.0 request of some series.
pub fn request(all: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    for one in all {
        bytes(&mut out, 1, one);
    }
    out
}

/// Compresses as remote write wants it.
///
/// # Panics
/// If the body is too large for snappy.
pub fn snappy(body: &[u8]) -> Vec<u8> {
    snap::raw::Encoder::new()
        .compress_vec(body)
        .expect("small bodies")
}

/// Sends series with their samples.
pub fn send(client: &Client, all: &[Vec<u8>]) -> Answer {
    send_body(client, &request(all))
}

/// Sends a decompressed message.
pub fn send_body(client: &Client, body: &[u8]) -> Answer {
    client.request("POST", "/api/v1/write", HEADERS, &snappy(body))
}

/// Milliseconds since the epoch.
///
/// # Panics
/// If the clock stands before 1970.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("a clock after 1970");
    since.as_millis() as i64
}
