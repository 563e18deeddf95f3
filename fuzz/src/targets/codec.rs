//! Encodings of the engine: damaged blocks give an error or values of the declared number, and
//! what decodes encodes back to the same values.

use chronolith_engine::codec::{
    CodecError, EncodeEffort, bytes, chunk_stream, floats, integers, strings, templates,
    timestamps, varint,
};

use crate::Target;

/// Variable-length integers: any bytes are numbers, then a rest; canonical numbers come back.
pub static VARINT: Target = Target {
    name: "varint",
    body: varints,
    seeds: varint_seeds,
    dictionary: &[],
};

/// Column blocks. The first byte picks the column, the next two are the declared count.
pub static BLOCK: Target = Target {
    name: "block",
    body: blocks,
    seeds: block_seeds,
    dictionary: &[],
};

/// Declared counts stay below this: the directory bounds them in real files too.
const COUNT_MAX: usize = 5_000;
/// Bytes that a column of strings may decode to.
const STRING_BYTES_MAX: usize = 1 << 20;

const EFFORTS: [EncodeEffort; 3] = [
    EncodeEffort::Flush,
    EncodeEffort::Compact,
    EncodeEffort::Cold,
];

fn varint_seeds() -> Vec<Vec<u8>> {
    let mut bytes = Vec::new();
    for value in [
        0,
        1,
        127,
        128,
        16_383,
        16_384,
        u64::from(u32::MAX),
        u64::MAX,
    ] {
        varint::write_u64(&mut bytes, value);
    }
    vec![bytes]
}

fn varints(data: &[u8]) {
    let mut at = 0;
    while at < data.len() {
        let start = at;
        let Some(value) = varint::read_u64(data, &mut at) else {
            break;
        };
        assert!(
            at > start && at <= data.len(),
            "a number takes at least a byte of the input"
        );
        let mut written = Vec::new();
        varint::write_u64(&mut written, value);
        assert!(written.len() <= at - start, "our encoding is the shortest");
        assert_eq!(written.len(), varint::len_u64(value));
        let mut again = 0;
        assert_eq!(varint::read_u64(&written, &mut again), Some(value));
        assert_eq!(again, written.len());
    }
    let mut at = 0;
    while let Some(value) = varint::read_i64(data, &mut at) {
        let mut written = Vec::new();
        varint::write_i64(&mut written, value);
        assert_eq!(varint::read_i64(&written, &mut 0), Some(value));
        if at >= data.len() {
            break;
        }
    }
}

/// The columns that have an encoding of their own.
#[derive(Clone, Copy)]
enum Column {
    Timestamps,
    Integers,
    Floats,
    Strings,
    SortedStrings,
    Bytes,
    Chunk,
}

const COLUMNS: [Column; 7] = [
    Column::Timestamps,
    Column::Integers,
    Column::Floats,
    Column::Strings,
    Column::SortedStrings,
    Column::Bytes,
    Column::Chunk,
];

fn blocks(data: &[u8]) {
    let [column, low, high, block @ ..] = data else {
        return;
    };
    let column = COLUMNS[usize::from(*column) % COLUMNS.len()];
    let count = usize::from(u16::from_le_bytes([*low, *high])) % COUNT_MAX;
    match column {
        Column::Timestamps => {
            let decode = |block: &[u8], count, out: &mut _| timestamps::decode(block, count, out);
            numbers(block, count, decode, timestamps::encode, |value: &i64| {
                *value as u64
            });
            let _ = timestamps::exact_grid(block);
        }
        Column::Integers => {
            numbers(
                block,
                count,
                integers::decode,
                integers::encode,
                |value: &i64| *value as u64,
            );
        }
        Column::Floats => {
            numbers(
                block,
                count,
                floats::decode,
                floats::encode,
                |value: &f64| value.to_bits(),
            );
            let _ = floats::constant(block);
        }
        Column::Strings => string_block(block, count),
        Column::SortedStrings => sorted_block(block),
        Column::Bytes => {
            let mut out = vec![7];
            let decoded = bytes::decode(block, STRING_BYTES_MAX, &mut out);
            assert!(
                decoded.is_ok() || out == [7],
                "a failed decoder leaves the output alone"
            );
            assert!(out.len() <= STRING_BYTES_MAX + 1);
        }
        Column::Chunk => chunk(block, count),
    }
}

/// Decodes a block of numbers; on success encodes them again, with every effort.
fn numbers<T: Clone>(
    block: &[u8],
    count: usize,
    decode: impl Fn(&[u8], usize, &mut Vec<T>) -> Result<(), CodecError>,
    encode: impl Fn(&[T], EncodeEffort, &mut Vec<u8>),
    bits: impl Fn(&T) -> u64,
) {
    let mut values = Vec::new();
    let Err(error) = decode(block, count, &mut values) else {
        assert_eq!(values.len(), count);
        for effort in EFFORTS {
            let mut again = Vec::new();
            encode(&values, effort, &mut again);
            let mut decoded = Vec::new();
            if let Err(error) = decode(&again, count, &mut decoded) {
                panic!("what we encode decodes: {error}");
            }
            assert!(
                values.iter().map(&bits).eq(decoded.iter().map(&bits)),
                "{effort:?}"
            );
        }
        return;
    };
    assert!(
        values.is_empty(),
        "a failed decoder leaves the output alone: {error}"
    );
    let _ = error.to_string();
}

fn string_block(block: &[u8], count: usize) {
    text_block(block, count);
    let Ok(values) = strings::decode(block, count, STRING_BYTES_MAX) else {
        return;
    };
    assert_eq!(values.len(), count);
    assert!(values.iter().map(<[u8]>::len).sum::<usize>() <= STRING_BYTES_MAX);
    if let Ok(dictionary) = strings::decode_dictionary(block, count, STRING_BYTES_MAX) {
        assert_eq!(dictionary.keys.len(), count);
        for (key, value) in dictionary.keys.iter().zip(values.iter()) {
            let index = usize::try_from(*key).expect("keys are in range");
            assert_eq!(dictionary.values.get(index), Some(value));
        }
    }
    let owned: Vec<&[u8]> = values.iter().collect();
    for effort in EFFORTS {
        let mut again = Vec::new();
        strings::encode(&owned, effort, &mut again);
        let decoded = strings::decode(&again, count, STRING_BYTES_MAX);
        assert_eq!(decoded.as_ref(), Ok(&values), "{effort:?}");
        let mut again = Vec::new();
        templates::TemplateEncoder::default().encode_values(&owned, effort, &mut again);
        let decoded = strings::decode(&again, count, STRING_BYTES_MAX);
        assert_eq!(decoded.as_ref(), Ok(&values), "{effort:?}, templates");
    }
}

/// Searches and partial reads of a block that may be damaged in what decoding does not look at.
fn text_block(block: &[u8], count: usize) {
    let Ok(text) = templates::TextBlock::open(block, count, STRING_BYTES_MAX) else {
        return;
    };
    let rows: Vec<u32> = (0..count as u32).step_by(3).collect();
    let _ = text.decode_rows(&rows);
    for pattern in ["7", "line [0-9]+ of"] {
        let Ok(search) = templates::TextSearch::regex(pattern) else {
            panic!("a pattern of ours compiles");
        };
        let found = text.search(&search, &templates::RowSet::all(count));
        let counted = text.count_matches(&search);
        if let (Ok(found), Ok(counted)) = (found, counted) {
            assert_eq!(found.len(), counted);
        }
    }
}

fn sorted_block(block: &[u8]) {
    let Ok(list) = strings::SortedStrings::open(block) else {
        return;
    };
    let mut text = Vec::new();
    for index in 0..list.len().min(100) {
        let _ = list.get(index, &mut text);
    }
    let _ = list.search(b"m");
    let mut visited = 0;
    let _ = list.visit_from(0, |_, _| {
        visited += 1;
        true
    });
    assert!(visited <= list.len());
}

fn chunk(block: &[u8], count: usize) {
    let (mut times, mut values) = (Vec::new(), Vec::new());
    if chunk_stream::decode(block, count, &mut times, &mut values).is_err() {
        assert!(
            times.is_empty() && values.is_empty(),
            "a failed decoder leaves the output alone"
        );
        return;
    }
    assert_eq!((times.len(), values.len()), (count, count));
    let mut appender = chunk_stream::Appender::new();
    for (time, value) in times.iter().zip(&values) {
        appender.append(*time, *value);
    }
    let again = appender.finish();
    let (mut times_again, mut values_again) = (Vec::new(), Vec::new());
    let decoded = chunk_stream::decode(&again, count, &mut times_again, &mut values_again);
    assert_eq!(decoded, Ok(()));
    assert_eq!(times, times_again);
    assert!(
        values
            .iter()
            .map(|v| v.to_bits())
            .eq(values_again.iter().map(|v| v.to_bits()))
    );
}

/// Every encoding that the encoders choose for data of typical and ugly shapes.
fn block_seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    let mut add = |column: Column, count: usize, block: Vec<u8>| {
        let mut seed = vec![column as u8];
        seed.extend((count as u16).to_le_bytes());
        seed.extend(block);
        seeds.push(seed);
    };
    for (times, values) in shapes() {
        for effort in EFFORTS {
            let mut block = Vec::new();
            timestamps::encode(&times, effort, &mut block);
            add(Column::Timestamps, times.len(), std::mem::take(&mut block));
            integers::encode(&times, effort, &mut block);
            add(Column::Integers, times.len(), std::mem::take(&mut block));
            floats::encode(&values, effort, &mut block);
            add(Column::Floats, values.len(), block);
        }
        let mut appender = chunk_stream::Appender::new();
        for (time, value) in times.iter().zip(&values) {
            appender.append(*time, *value);
        }
        add(Column::Chunk, times.len(), appender.finish());
    }
    let words = |count: usize, distinct: usize| -> Vec<String> {
        (0..count)
            .map(|index| format!("pipeline-{}", index * 7 % distinct))
            .collect()
    };
    for list in [words(0, 1), words(5, 1), words(200, 3), words(90, 89)] {
        for effort in EFFORTS {
            let mut block = Vec::new();
            strings::encode(&list, effort, &mut block);
            add(Column::Strings, list.len(), block);
        }
    }
    let lines: Vec<String> = (0..300)
        .map(|index: u32| {
            let id = index.wrapping_mul(2_654_435_761);
            format!(
                "line {index} of job={id:08x} took {}.{:02} ms",
                id % 77,
                id % 100
            )
        })
        .collect();
    for effort in EFFORTS {
        let mut block = Vec::new();
        templates::TemplateEncoder::default().encode_values(&lines, effort, &mut block);
        add(Column::Strings, lines.len(), block);
    }
    let mut sorted = words(60, 59);
    sorted.sort();
    sorted.dedup();
    let mut block = Vec::new();
    strings::encode_sorted(&sorted, &mut block);
    add(Column::SortedStrings, sorted.len(), block);
    for raw in [&b"short"[..], &[9; 4_000]] {
        let mut block = Vec::new();
        bytes::encode(raw, 1, &mut block);
        add(Column::Bytes, 0, block);
    }
    seeds
}

/// Times in nanoseconds with values: empty, one, regular counters, noisy gauges, extremes.
fn shapes() -> Vec<(Vec<i64>, Vec<f64>)> {
    let second_ns = 1_000_000_000;
    let grid =
        |count: i64| (0..count).map(|index| 1_763_600_400 * second_ns + index * 15 * second_ns);
    let counter = |index: usize| (index * 3) as f64;
    let gauge = |index: usize| (index as f64 * 0.37).sin().mul_add(7.3, 50.0);
    let percent = |index: usize| (gauge(index) * 100.0).round() / 100.0;
    let ugly = [
        0.0,
        -0.0,
        f64::NAN,
        f64::from_bits(0x7ff0_0000_0000_0002),
        f64::INFINITY,
        f64::NEG_INFINITY,
        f64::MIN_POSITIVE / 2.0,
        f64::MAX,
        1e-300,
    ];
    let jittered = grid(150)
        .enumerate()
        .map(|(index, time)| time + (index as i64 * 7919) % 997);
    vec![
        (Vec::new(), Vec::new()),
        (vec![i64::MIN], vec![f64::NAN]),
        (grid(240).collect(), (0..240).map(counter).collect()),
        (grid(240).collect(), vec![1.0; 240]),
        (grid(150).collect(), (0..150).map(percent).collect()),
        (jittered.collect(), (0..150).map(gauge).collect()),
        (
            vec![i64::MIN, -1, 0, 1, i64::MAX, 5, 4, 3, 2],
            ugly.to_vec(),
        ),
    ]
}
