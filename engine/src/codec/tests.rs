//! Every codec against ugly values, truncation at each length, and a flip of each byte.

use super::choose::EncodeEffort::{self, Cold, Compact, Flush};
use super::{CodecError, chunk_stream, floats, integers, strings, timestamps};
use proptest::prelude::*;

const EFFORTS: [EncodeEffort; 3] = [Flush, Compact, Cold];
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// A small deterministic generator (xorshift64*).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Roughly normal with deviation 1.
    pub(super) fn normal(&mut self) -> f64 {
        (0..6)
            .map(|_| self.below(1 << 30) as f64 / (1 << 30) as f64)
            .sum::<f64>()
            - 3.0
    }
}

/// Named columns of the shapes that telemetry has, and of those that it should not have.
fn float_columns() -> Vec<(&'static str, Vec<f64>)> {
    let mut random = Random(7);
    let mut columns: Vec<(&'static str, Vec<f64>)> = vec![
        ("empty", vec![]),
        ("one", vec![1.5]),
        ("constant", vec![-0.0; 300]),
        ("constant NaN", vec![f64::from_bits(STALE); 129]),
        ("two", vec![1.0, -0.0]),
        (
            "zeros of both signs",
            (0..200)
                .map(|i| if i % 3 == 0 { -0.0 } else { 0.0 })
                .collect(),
        ),
        ("ugly", ugly_floats()),
        ("ugly repeated", ugly_floats().repeat(12)),
        (
            "denormals",
            (0..300).map(|i| f64::from_bits(i * 7)).collect(),
        ),
        (
            "huge integers",
            (0..300)
                .map(|i| (1_u64 << 53) as f64 * (i as f64 + 1.0))
                .collect(),
        ),
        (
            "eighths",
            (0..500).map(|i| (i * i % 97) as f64 / 8.0).collect(),
        ),
        (
            "pages",
            (0..500).map(|i| (i * i % 9973) as f64 * 4096.0).collect(),
        ),
        (
            "f32",
            (0..500)
                .map(|i| f64::from((i as f32 * 0.37).sin()))
                .collect(),
        ),
    ];
    let mut counter = 1e6;
    columns.push((
        "counter with resets",
        (0..2160)
            .map(|_| {
                counter = if random.below(700) == 0 { 0.0 } else { counter };
                counter += random.below(500) as f64;
                counter
            })
            .collect(),
    ));
    let mut cents = 12_345_678_i64;
    columns.push((
        "cents with stale markers",
        (0..1024)
            .map(|i| {
                cents += random.below(90) as i64;
                if i % 200 == 199 {
                    f64::from_bits(STALE)
                } else {
                    cents as f64 / 100.0
                }
            })
            .collect(),
    ));
    let mut walk = 50.0;
    columns.push((
        "full-precision walk",
        (0..1000)
            .map(|_| {
                walk += random.normal();
                walk
            })
            .collect(),
    ));
    columns.push((
        "noise bits",
        (0..300).map(|_| f64::from_bits(random.next())).collect(),
    ));
    columns.push((
        "rare changes",
        (0..1500).map(|i| (i / 400) as f64).collect(),
    ));
    columns
}

fn ugly_floats() -> Vec<f64> {
    [
        STALE,
        0x7ff8_0000_0000_0000,
        0xfff8_0000_0000_0001,
        u64::MAX,
        0,
        1 << 63,
        1,
        f64::MAX.to_bits(),
        f64::MIN.to_bits(),
        f64::MIN_POSITIVE.to_bits(),
        f64::INFINITY.to_bits(),
        f64::NEG_INFINITY.to_bits(),
        0.1_f64.to_bits(),
        1e300_f64.to_bits(),
        9_007_199_254_740_993_f64.to_bits(),
    ]
    .map(f64::from_bits)
    .to_vec()
}

fn integer_columns() -> Vec<(&'static str, Vec<i64>)> {
    let mut random = Random(11);
    vec![
        ("empty", vec![]),
        ("one", vec![i64::MIN]),
        ("two", vec![i64::MAX, i64::MIN]),
        ("constant", vec![-7; 1000]),
        ("extremes", [i64::MIN, i64::MAX, 0, -1, 1].repeat(60)),
        ("ascending", (0..1000).collect()),
        ("squares", (0..1000).map(|i| i * i).collect()),
        (
            "divisor",
            (0..1000).map(|i| 17 + 1_000_000 * (i * i % 71)).collect(),
        ),
        ("noise", (0..777).map(|_| random.next() as i64).collect()),
        (
            "outliers below",
            (0..600)
                .map(|i| if i % 90 == 5 { -1 << 50 } else { i % 7 })
                .collect(),
        ),
        (
            "outliers above",
            (0..600)
                .map(|i| if i % 90 == 5 { 1 << 50 } else { i % 7 })
                .collect(),
        ),
        (
            "normal",
            (0..2160)
                .map(|_| (random.normal() * 1000.0) as i64)
                .collect(),
        ),
        (
            "tail",
            (0..129).map(|_| (random.normal() * 10.0) as i64).collect(),
        ),
    ]
}

fn time_columns() -> Vec<(&'static str, Vec<i64>)> {
    let mut random = Random(13);
    let start = 1_700_000_000_123_000_000_i64;
    let mut columns = integer_columns();
    columns.extend([
        (
            "grid",
            (0..2160)
                .map(|i| start + i * 10_000_000_000)
                .collect::<Vec<i64>>(),
        ),
        (
            "jitter",
            (0..1024)
                .map(|i| start + i * 10_000_000_000 + random.below(3) as i64 * 1_000_000)
                .collect(),
        ),
        (
            "gaps",
            (0..1024)
                .filter(|i| i % 97 != 5)
                .map(|i| start + i * 10_000_000_000)
                .collect(),
        ),
        (
            "duplicates",
            (0..500).map(|i| start + i / 2 * 1_000_000_000).collect(),
        ),
    ]);
    columns
}

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Feeds damaged versions of `block` to `decode`, which must not panic, and on success must have
/// appended exactly `count` values (`decode` returns how many).
fn abuse(block: &[u8], count: usize, decode: impl Fn(&[u8], usize) -> Result<usize, CodecError>) {
    let check = |bytes: &[u8], count: usize| {
        if let Ok(decoded) = decode(bytes, count) {
            assert_eq!(decoded, count);
        }
    };
    let stride = (block.len() / 400).max(1);
    for cut in (0..block.len()).step_by(stride) {
        check(&block[..cut], count);
    }
    for at in (0..block.len()).step_by(stride) {
        for flip in [0x01, 0x80, 0xff] {
            let mut damaged = block.to_vec();
            damaged[at] ^= flip;
            check(&damaged, count);
        }
    }
    let longer = [block, &[0]].concat();
    check(&longer, count);
    check(block, count + 1);
    check(block, count.saturating_sub(1));
    check(block, count + 1000);
}

#[test]
fn floats_survive_to_the_bit_and_damage_is_harmless() {
    for (name, values) in float_columns() {
        for effort in EFFORTS {
            let mut block = vec![];
            floats::encode(&values, effort, &mut block);
            assert!(
                block.len() <= 8 * values.len() + 1 + 8,
                "{name}: {} bytes",
                block.len()
            );
            let mut out = vec![42.0];
            assert_eq!(
                floats::decode(&block, values.len(), &mut out),
                Ok(()),
                "{name} {effort:?}"
            );
            assert_eq!(bits(&out[1..]), bits(&values), "{name} {effort:?}");
            abuse(&block, values.len(), |bytes, count| {
                let mut out = vec![];
                let decoded = floats::decode(bytes, count, &mut out);
                assert!(decoded.is_ok() || out.is_empty());
                decoded.map(|()| out.len())
            });
        }
    }
}

#[test]
fn ranges_are_parts_of_the_whole_and_damage_is_harmless() {
    let mut random = Random(11);
    for (name, values) in float_columns() {
        for effort in EFFORTS {
            let mut block = vec![];
            floats::encode(&values, effort, &mut block);
            let count = values.len();
            let some_range = |random: &mut Random| {
                let [a, b] = [(); 2].map(|()| random.below(count as u64 + 1) as usize);
                a.min(b)..a.max(b)
            };
            let mut ranges = vec![0..count, 0..count.min(1), count.saturating_sub(2)..count];
            ranges.extend((0..40).map(|_| some_range(&mut random)));
            for range in ranges {
                let mut out = vec![42.0];
                let decoded = floats::decode_range(&block, count, range.clone(), &mut out);
                assert_eq!(decoded, Ok(()), "{name} {effort:?} {range:?}");
                let expected = bits(&values[range.clone()]);
                assert_eq!(bits(&out[1..]), expected, "{name} {effort:?} {range:?}");
            }
            for _ in 0..100.min(block.len()) {
                let mut damaged = block.clone();
                let at = random.below(block.len() as u64) as usize;
                damaged[at] ^= 1 << random.below(8);
                let range = some_range(&mut random);
                let mut out = vec![];
                let decoded = floats::decode_range(&damaged, count, range.clone(), &mut out);
                assert_eq!(out.len(), decoded.map_or(0, |()| range.len()), "{name}");
            }
        }
    }
}

#[test]
fn integers_survive_and_damage_is_harmless() {
    for (name, values) in integer_columns() {
        for effort in EFFORTS {
            let mut block = vec![];
            integers::encode(&values, effort, &mut block);
            let mut out = vec![];
            assert_eq!(
                integers::decode(&block, values.len(), &mut out),
                Ok(()),
                "{name}"
            );
            assert_eq!(out, values, "{name} {effort:?}");
            abuse(&block, values.len(), |bytes, count| {
                let mut out = vec![];
                integers::decode(bytes, count, &mut out).map(|()| out.len())
            });
        }
    }
}

#[test]
fn timestamps_survive_and_damage_is_harmless() {
    for (name, values) in time_columns() {
        for effort in EFFORTS {
            let mut block = vec![];
            timestamps::encode(&values, effort, &mut block);
            let mut out = vec![];
            assert_eq!(
                timestamps::decode(&block, values.len(), &mut out),
                Ok(()),
                "{name}"
            );
            assert_eq!(out, values, "{name} {effort:?}");
            abuse(&block, values.len(), |bytes, count| {
                let mut out = vec![];
                timestamps::decode(bytes, count, &mut out).map(|()| out.len())
            });
        }
    }
}

#[test]
fn blocks_of_another_kind_are_refused() {
    let mut block = vec![];
    integers::encode(&[1, 2, 3], Flush, &mut block);
    assert!(matches!(
        floats::decode(&block, 3, &mut vec![]),
        Err(CodecError::UnknownTag {
            column: "floats",
            ..
        })
    ));
    assert!(timestamps::decode(&block, 3, &mut vec![]).is_err());
    assert!(strings::decode(&block, 3, 100).is_err());
}

#[test]
fn open_chunks_are_readable_at_every_prefix() {
    for (name, values) in float_columns() {
        for (_, times) in time_columns()
            .into_iter()
            .filter(|(_, t)| t.len() >= values.len())
        {
            let mut appender = chunk_stream::Appender::new();
            for (index, (&time, &value)) in times.iter().zip(&values).enumerate() {
                appender.append(time, value);
                if index % 61 == 3 {
                    let samples: Result<Vec<_>, _> = appender.reader().collect();
                    let samples = samples.unwrap();
                    assert_eq!(samples.len(), index + 1);
                    let last = samples[index];
                    assert_eq!(
                        (last.0, last.1.to_bits()),
                        (time, value.to_bits()),
                        "{name}"
                    );
                }
            }
            let (mut out_times, mut out_values) = (vec![], vec![]);
            let count = appender.count();
            chunk_stream::decode(appender.bytes(), count, &mut out_times, &mut out_values).unwrap();
            assert_eq!(out_times, &times[..values.len()], "{name}");
            assert_eq!(bits(&out_values), bits(&values), "{name}");
            abuse(appender.bytes(), count, |bytes, count| {
                let (mut times, mut values) = (vec![], vec![]);
                chunk_stream::decode(bytes, count, &mut times, &mut values).map(|()| values.len())
            });
        }
    }
}

#[test]
fn strings_survive_and_damage_is_harmless() {
    let mut random = Random(3);
    let columns: Vec<Vec<String>> = vec![
        vec![],
        vec![String::new()],
        vec!["GET".into(); 100],
        (0..500)
            .map(|i| ["GET", "POST", "", "DELETE"][i % 4].into())
            .collect(),
        (0..300)
            .map(|i| format!("request {i} took {} ms", random.below(1000)))
            .collect(),
        (0..300)
            .map(|_| format!("{:016x}", random.next()))
            .collect(),
    ];
    for values in columns {
        let total: usize = values.iter().map(String::len).sum();
        for effort in EFFORTS {
            let mut block = vec![];
            strings::encode(&values, effort, &mut block);
            let decoded = strings::decode(&block, values.len(), total).unwrap();
            assert!(decoded.iter().eq(values.iter().map(String::as_bytes)));
            let dictionary = strings::decode_dictionary(&block, values.len(), total).unwrap();
            for (key, value) in dictionary.keys.iter().zip(&values) {
                assert_eq!(dictionary.values.get(*key as usize), Some(value.as_bytes()));
            }
            abuse(&block, values.len(), |bytes, count| {
                let strings = strings::decode(bytes, count, 100_000)?;
                strings
                    .iter()
                    .for_each(|string| assert!(string.len() <= 100_000));
                Ok(strings.len())
            });
        }
    }
}

#[test]
fn sorted_lists_are_searched_without_decoding_them() {
    for count in [0, 1, 15, 16, 17, 1000] {
        let list: Vec<String> = (0..count)
            .map(|i| format!("svc-{:05}-pod", i * 3))
            .collect();
        let mut block = vec![];
        strings::encode_sorted(&list, &mut block);
        let sorted = strings::SortedStrings::open(&block).unwrap();
        assert_eq!(sorted.len(), count);
        let mut string = vec![];
        for (index, wanted) in list.iter().enumerate() {
            assert_eq!(sorted.get(index, &mut string), Ok(true));
            assert_eq!(string, wanted.as_bytes());
            assert_eq!(sorted.search(wanted.as_bytes()), Ok(Ok(index)));
        }
        assert_eq!(sorted.get(count, &mut string), Ok(false));
        for probe in ["", "a", "svc-00001", "svc-00100-pod", "zzz"] {
            let expected = list.binary_search_by(|item| item.as_str().cmp(probe));
            assert_eq!(sorted.search(probe.as_bytes()), Ok(expected), "{probe}");
        }
        let mut visited = vec![];
        sorted
            .visit_from(count / 2, |index, string| {
                visited.push((index, string.to_vec()));
                true
            })
            .unwrap();
        let expected = list.iter().enumerate().skip(count / 2);
        assert!(
            visited
                .into_iter()
                .eq(expected.map(|(i, s)| (i, s.clone().into_bytes())))
        );
        for at in 0..block.len() {
            let mut damaged = block.clone();
            damaged[at] ^= 0x55;
            if let Ok(sorted) = strings::SortedStrings::open(&damaged) {
                let _ = sorted.search(b"svc-00300-pod");
                let _ = sorted.get(count / 2, &mut string);
                let _ = sorted.visit_from(0, |_, _| true);
            }
        }
    }
}

/// Sizes as in `benches/RESULTS.md`, with a margin: a change that loses bytes shows here first.
#[test]
fn sizes_stay_as_measured() {
    let mut random = Random(5);
    let mut total = 1e9;
    let packets: Vec<f64> = (0..2160)
        .map(|_| {
            total += (400.0 + 28.0 * random.normal()).round();
            total
        })
        .collect();
    let cents: Vec<f64> = packets.iter().map(|value| value / 100.0).collect();
    let walk = |random: &mut Random| {
        let mut value = 40.0;
        (0..2160)
            .map(|_| {
                value += random.normal();
                value
            })
            .collect::<Vec<f64>>()
    };
    let full = walk(&mut random);
    let eighths: Vec<f64> = full
        .iter()
        .map(|value| (value * 8.0).round() / 8.0)
        .collect();
    let rare: Vec<f64> = (0..2160).map(|i| f64::from(i / 97 % 7)).collect();
    for (name, values, effort, bytes_per_sample) in [
        ("packets", &packets, Flush, 1.0),
        ("packets", &packets, Compact, 0.9),
        ("cents", &cents, Flush, 1.0),
        ("cents", &cents, Compact, 0.9),
        ("eighths", &eighths, Flush, 0.75),
        ("full", &full, Flush, 7.0),
        ("rare", &rare, Compact, 0.07),
        ("constant", &vec![0.5; 2160], Flush, 0.005),
    ] {
        let mut block = vec![];
        floats::encode(values, effort, &mut block);
        let size = block.len() as f64 / values.len() as f64;
        assert!(
            size <= bytes_per_sample,
            "{name} {effort:?}: {size:.3} B/sample"
        );
    }
}

fn any_effort() -> impl Strategy<Value = EncodeEffort> {
    prop::sample::select(EFFORTS.to_vec())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_floats_round_trip(
        raw in prop::collection::vec(any::<u64>(), 0..300),
        scale in prop::sample::select(vec![0_u32, 40, 52, 60]),
        divisor in prop::sample::select(vec![1.0, 10.0, 100.0, 8.0, 0.0]),
        effort in any_effort(),
    ) {
        let values: Vec<f64> = raw
            .iter()
            .map(|&bits| match divisor {
                0.0 => f64::from_bits(bits),
                divisor => (bits as i64 >> scale) as f64 / divisor,
            })
            .collect();
        let mut block = vec![];
        floats::encode(&values, effort, &mut block);
        let mut out = vec![];
        prop_assert_eq!(floats::decode(&block, values.len(), &mut out), Ok(()));
        prop_assert_eq!(bits(&out), bits(&values));
        let mut appender = chunk_stream::Appender::new();
        for (index, &value) in values.iter().enumerate() {
            appender.append(raw[index] as i64 >> scale, value);
        }
        let samples: Result<Vec<_>, _> = appender.reader().collect();
        let values_read: Vec<u64> = samples.unwrap().iter().map(|s| s.1.to_bits()).collect();
        prop_assert_eq!(values_read, bits(&values));
    }

    #[test]
    fn any_integers_round_trip(
        raw in prop::collection::vec(any::<i64>(), 0..400),
        shift in 0_u32..64,
        factor in prop::sample::select(vec![1_i64, 1000, 4096, i64::MAX, -1]),
        effort in any_effort(),
    ) {
        let values: Vec<i64> =
            raw.iter().map(|&value| (value >> shift).wrapping_mul(factor)).collect();
        let mut block = vec![];
        integers::encode(&values, effort, &mut block);
        let mut out = vec![];
        prop_assert_eq!(integers::decode(&block, values.len(), &mut out), Ok(()));
        prop_assert_eq!(&out, &values);
        block.clear();
        out.clear();
        timestamps::encode(&values, effort, &mut block);
        prop_assert_eq!(timestamps::decode(&block, values.len(), &mut out), Ok(()));
        prop_assert_eq!(&out, &values);
    }

    #[test]
    fn any_bytes_are_harmless(bytes in prop::collection::vec(any::<u8>(), 0..200), tag in 0_u8..0x90) {
        let mut block = vec![tag];
        block.extend_from_slice(&bytes);
        for count in [0, 1, 100, 1000] {
            let _ = floats::decode(&block, count, &mut vec![]);
            let _ = floats::decode_range(&block, count, count / 3..count / 2, &mut vec![]);
            let _ = integers::decode(&block, count, &mut vec![]);
            let _ = timestamps::decode(&block, count, &mut vec![]);
            let _ = strings::decode(&block, count, 10_000);
            let _ = chunk_stream::decode(&bytes, count, &mut vec![], &mut vec![]);
            let _ = super::bytes::decode(&block, 10_000, &mut vec![]);
        }
    }
}
