//! Encodings of the engine: what decodes must encode back to the same bytes or the same values.

use chronolith_engine::codec::varint;

use crate::Target;

/// Variable-length integers: any bytes are numbers, then a rest; canonical numbers come back.
pub static VARINT: Target = Target {
    name: "varint",
    body: varints,
    seeds,
    dictionary: &[],
};

fn seeds() -> Vec<Vec<u8>> {
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
