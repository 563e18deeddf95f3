//! InfluxDB's line protocol: any bytes are lines or named faults, what was read reads the same when it
//! is written again, and nothing is stored that was not counted or reserved.

use std::sync::LazyLock;

use chronolith_engine::model::TimestampNs;
use chronolith_engine::{RequestContext, Store, StoreOptions};
use chronolith_server::ingest::influx::line::{Field, FieldValue, Reader, tags};
use chronolith_server::ingest::influx::{WriteOptions, prepare};

use crate::Target;

/// The line protocol.
pub static LINE_PROTOCOL: Target = Target {
    name: "line_protocol",
    body: line_protocol,
    seeds,
    dictionary: &[
        "\n",
        ",",
        "=",
        " ",
        "\\",
        "\\ ",
        "\\,",
        "\\=",
        "\"",
        "\\\"",
        "#",
        "1i",
        "2u",
        "t",
        "FALSE",
        "NaN",
        "1e308",
        "0.1",
        "-",
        "\r\n",
        "cpu,host=a ",
        "v=1",
    ],
};

/// Appends are prepared and never committed, so that one empty store serves all inputs.
static STORE: LazyLock<Store> = LazyLock::new(|| {
    let options = StoreOptions {
        background: false,
        ..StoreOptions::default()
    };
    match Store::in_memory(options) {
        Ok(store) => store,
        Err(error) => panic!("bug: a store in memory cannot be opened: {error}"),
    }
});

const OPTIONS: WriteOptions<'static> = WriteOptions {
    database: "db",
    unit_ns: 1_000,
    now: TimestampNs(1_763_600_400_000_000_000),
    latest: TimestampNs(2_000_000_000_000_000_000),
};

fn line_protocol(data: &[u8]) {
    let lines_max = data.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    let mut reader = Reader::new(data);
    let mut fields = Vec::new();
    let (mut lines, mut numbers, mut last) = (0, 0, 0);
    while let Some(line) = reader.next_line(&mut fields) {
        lines += 1;
        let number = match line {
            Ok(line) => {
                assert!(!line.series.is_empty() && !fields.is_empty());
                for field in &fields {
                    if let FieldValue::Number(value) = field.value {
                        assert!(value.is_finite());
                        numbers += 1;
                    }
                }
                reads_the_same(line.series, &fields, line.time);
                line.number
            }
            Err(error) => {
                assert!(!error.fault.to_string().is_empty());
                error.number
            }
        };
        assert!(
            number > last && number <= lines_max,
            "line {number} of {lines_max}"
        );
        last = number;
    }
    let context = RequestContext::new();
    let (append, counts) = match prepare(&STORE, &context, data, &OPTIONS) {
        Ok(prepared) => prepared,
        Err(error) => panic!("faulty lines are no error: {error}"),
    };
    assert_eq!(append.rows() as u64, counts.samples);
    assert_eq!(counts.lines, lines);
    assert!(counts.samples <= numbers && counts.refused <= lines);
    // The server reserves memory by this bound.
    let equals = data.iter().filter(|byte| **byte == b'=').count() as u64;
    assert!(counts.samples <= equals);
}

/// Writes a line anew, as plainly as possible, and reads it.
fn reads_the_same(series: &[u8], fields: &[Field<'_>], time: Option<i64>) {
    let mut text = series.to_vec();
    for (index, field) in fields.iter().enumerate() {
        text.push(if index == 0 { b' ' } else { b',' });
        text.extend_from_slice(field.key);
        text.push(b'=');
        match field.value {
            FieldValue::Number(value) => text.extend_from_slice(format!("{value:?}").as_bytes()),
            FieldValue::Text => text.extend_from_slice(b"\"\""),
        }
    }
    if let Some(time) = time {
        text.extend_from_slice(format!(" {time}").as_bytes());
    }
    let mut again = Vec::new();
    let line = Reader::new(&text).next_line(&mut again);
    let line = line.expect("a line").expect("a good line");
    assert_eq!((line.series, line.time, line.number), (series, time, 1));
    assert_eq!(again, fields);
    let _ = tags(series, |key, value| {
        assert!(!key.is_empty() && !value.is_empty())
    });
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "cpu,cpu=cpu0,host=web-1 usage_user=1.5,usage_idle=98.20359281437126,up=t 1763600400000000\n# c\n\nmem,host=web-1 used=123i,total=18446744073709551615u,note=\"a b\\\"\n\" \n",
        "a\\ b\\,c,k\\=1=v\\ 2 f\\ 1=-1e-7,g=.5\r\nbad\nm v= 1\nm,k v=1\nm v=\"open\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_read() {
        let context = RequestContext::new();
        let [good, mixed] = seeds().try_into().unwrap();
        let (_, counts) = prepare(&STORE, &context, &good, &OPTIONS).unwrap();
        assert_eq!((counts.lines, counts.refused, counts.samples), (2, 0, 5));
        assert_eq!(counts.strings, 1);
        let (_, counts) = prepare(&STORE, &context, &mixed, &OPTIONS).unwrap();
        assert_eq!((counts.lines, counts.refused, counts.samples), (5, 4, 2));
    }
}
