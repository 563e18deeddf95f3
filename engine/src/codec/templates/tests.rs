//! Round trips of any bytes, searches against brute force, and damage.

use proptest::prelude::*;

use super::super::tests::Random;
use super::super::{EncodeEffort, strings};
use super::*;

const EFFORTS: [EncodeEffort; 3] = [
    EncodeEffort::Flush,
    EncodeEffort::Compact,
    EncodeEffort::Cold,
];

/// A block of templates, whether that pays or not.
fn encode<S: AsRef<[u8]>>(lines: &[S], effort: EncodeEffort) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut ends = Vec::new();
    for line in lines {
        bytes.extend_from_slice(line.as_ref());
        ends.push(bytes.len() as u32);
    }
    let mut block = Vec::new();
    TemplateEncoder::default().encode_templates(
        TextColumn::new(&ends, &bytes),
        effort,
        &mut super::encode::NoSink,
        &mut block,
    );
    block
}

fn total<S: AsRef<[u8]>>(lines: &[S]) -> usize {
    lines.iter().map(|line| line.as_ref().len()).sum()
}

fn open<'a, S: AsRef<[u8]>>(block: &'a [u8], lines: &[S]) -> TemplateBlock<'a> {
    TemplateBlock::open(block, lines.len(), total(lines)).unwrap()
}

fn check_round_trip<S: AsRef<[u8]>>(lines: &[S]) {
    for effort in EFFORTS {
        let block = encode(lines, effort);
        let opened = open(&block, lines);
        let all = opened.decode_all().unwrap();
        assert!(all.iter().eq(lines.iter().map(AsRef::as_ref)), "{effort:?}");
        let rows: Vec<u32> = (0..lines.len() as u32).filter(|row| row % 3 == 1).collect();
        let some = open(&block, lines).decode_rows(&rows).unwrap();
        let expected = rows.iter().map(|&row| lines[row as usize].as_ref());
        assert!(some.iter().eq(expected), "{effort:?}");

        let mut chosen = Vec::new();
        TemplateEncoder::default().encode_values(lines, effort, &mut chosen);
        let decoded = strings::decode(&chosen, lines.len(), total(lines)).unwrap();
        assert_eq!(decoded, all);
        let text = TextBlock::open(&chosen, lines.len(), total(lines)).unwrap();
        assert_eq!(text.decode_all().unwrap(), all);
        assert_eq!(text.decode_rows(&rows).unwrap(), some);
    }
}

/// Lines as services write them: access logs, logfmt, sentences with names, addresses and ids.
fn log_lines(count: usize) -> Vec<String> {
    let mut random = Random(11);
    (0..count)
        .map(|i| {
            let n = random.next();
            let word = ["alpha", "beta", "gamma", "delta"][(n % 4) as usize];
            match n / 4 % 9 {
                0 => format!(
                    "{{\"method\":\"{}\",\"path\":\"/api/v1/{word}/{:05}\",\"status\":{},\"ms\":{}.{:03}}}",
                    ["GET", "POST"][(n >> 9) as usize % 2],
                    (n >> 10) % 100_000,
                    [200, 200, 200, 404, 500][(n >> 30) as usize % 5],
                    (n >> 33) % 2000,
                    (n >> 45) % 1000,
                ),
                1 => format!("job={:08x} took={}.{:02}ms queue=\"{word}\"", n as u32, (n >> 32) % 900, n % 100),
                2 => format!("user u{} logged in from 10.0.{}.{}", n % 50_000, (n >> 20) % 256, (n >> 30) % 256),
                3 => format!(
                    "[instance: {:08x}-{:04x}-4c88-b300-{:012x}] spawned",
                    n as u32, (n >> 32) as u16, n >> 16
                ),
                4 => "setLightsOn(true)".to_owned(),
                5 => format!("blk_{} at 0x{:X}", (n as i64) >> 3, n >> 40),
                6 => {
                    let name: String = (0..5).map(|k| char::from(b'a' + (n >> (5 * k)) as u8 % 26)).collect();
                    format!("session of {name} closed after {} s", n % 600)
                }
                7 => format!("trace {:016x}{:016x} ok", n, n.rotate_left(7)),
                _ => format!("free text {word} {i} {}", "x".repeat((n % 40) as usize)),
            }
        })
        .collect()
}

#[test]
fn log_lines_come_back_and_are_small() {
    let lines = log_lines(3000);
    check_round_trip(&lines);
    let block = encode(&lines, EncodeEffort::Flush);
    assert!(block.len() * 4 < total(&lines), "{} bytes", block.len());
    let opened = open(&block, &lines);
    assert!(opened.left_over_count().unwrap() < 100);
}

#[test]
fn ugly_columns_come_back() {
    check_round_trip::<&[u8]>(&[]);
    check_round_trip(&[b""]);
    check_round_trip(&[&b"\0\xff\xfe 12\r\n"[..]; 9]);
    let long = "7 ".repeat(5000);
    let huge = vec![b'x'; 100_000];
    let mut lines: Vec<&[u8]> = vec![b"", b"a 1", long.as_bytes(), &huge, b"\n", b"0x", b"0"];
    check_round_trip(&lines);
    lines.extend([&b"a 1"[..]; 50]);
    lines.extend([&b"a 01"[..]; 50]);
    lines.extend([&b"a 18446744073709551615 18446744073709551616"[..]; 9]);
    lines.extend([
        &b"a 9999999999999999999"[..],
        b"a 9223372036854775808",
        b"a 0",
    ]);
    check_round_trip(&lines);
    // Hex ids of any length in one slot.
    let ids: Vec<String> = (1..40)
        .map(|n| format!("id=0x{}", "a1".repeat(n)))
        .collect();
    check_round_trip(&ids);
}

#[test]
fn rows_and_slots_can_be_asked_for() {
    let lines: Vec<String> = (0..200)
        .map(|i| match i % 4 {
            0 => "no slot".to_owned(),
            1 => format!("{{\"status\":{},\"ms\":{}}}", 200 + i % 3, i * i),
            2 => format!("{{\"status\":{},\"us\":{}}}", 300 + i % 5, i),
            _ => "tick".to_owned(),
        })
        .collect();
    let block = encode(&lines, EncodeEffort::Flush);
    let opened = open(&block, &lines);
    let mut seen = 0;
    for template in opened.templates() {
        let pieces: Vec<&[u8]> = opened.pieces(template).collect();
        let rows = opened.rows_of_group(template.group).unwrap();
        let members = opened.members_of_ranks(template.group).unwrap();
        for (rank, &row) in rows.iter().enumerate() {
            if members.is_some_and(|members| members[rank] != template.member) {
                continue;
            }
            assert_eq!(opened.template_of(row).unwrap(), Some(template));
            seen += 1;
            let line = &lines[row as usize];
            if pieces.first() == Some(&&b"{\"status\":"[..]) {
                let status = opened.slot_column(template.group, 0).unwrap();
                let mut text = Vec::new();
                status.append(rank, &mut text);
                assert_eq!(text, line.as_bytes()[10..13]);
                if let Some(numbers) = status.decimals() {
                    assert_eq!(numbers[rank].to_string().as_bytes(), text);
                }
            } else {
                assert_eq!(pieces, [line.as_bytes()]);
            }
        }
    }
    assert_eq!(seen, lines.len());
    assert!(opened.slot_column(0, 99).is_err());
    assert!(opened.slot_column(99, 0).is_err());
    assert_eq!(opened.template_of(5000).unwrap(), None);
    assert!(opened.decode_rows(&[3, 3]).is_err());
    assert!(opened.decode_rows(&[200]).is_err());
}

fn check_search(block: &[u8], lines: &[String], search: &TextSearch, what: &str) {
    let expected: Vec<u32> = (0..lines.len() as u32)
        .filter(|&row| search.is_match(lines[row as usize].as_bytes()))
        .collect();
    let opened = TextBlock::open(block, lines.len(), total(lines)).unwrap();
    let all = RowSet::all(lines.len());
    let found: Vec<u32> = opened.search(search, &all).unwrap().iter().collect();
    assert_eq!(found, expected, "{what}");
    assert_eq!(
        opened.count_matches(search).unwrap(),
        expected.len(),
        "{what}"
    );
    let mut within = RowSet::none(lines.len());
    (0..lines.len() as u32)
        .filter(|row| row % 5 < 2)
        .for_each(|row| within.insert(row));
    let found = opened.search(search, &within).unwrap();
    assert!(
        found
            .iter()
            .eq(expected.iter().copied().filter(|row| row % 5 < 2)),
        "{what}"
    );
}

#[test]
fn searches_find_what_a_scan_finds() {
    let lines = log_lines(2000);
    let templates = encode(&lines, EncodeEffort::Flush);
    let mut plain = Vec::new();
    strings::encode(&lines, EncodeEffort::Flush, &mut plain);
    for block in [&templates, &plain] {
        for literal in [
            "",
            "logged in",
            "u1",
            "1",
            "status\":500",
            "500,",
            ".0",
            "0x",
            "spawned",
            "-4c88-",
            "session of",
            "ms queue=\"beta",
            "nothing of this",
            "x",
            "{",
            "a",
            "e closed after 1",
        ] {
            let search = TextSearch::literal(literal.as_bytes()).unwrap();
            check_search(block, &lines, &search, literal);
            let search = TextSearch::literal_ignoring_case(literal).unwrap();
            check_search(block, &lines, &search, literal);
        }
        for pattern in [
            "took=[0-9]{3,}\\.[0-9]+ms",
            "(?i)SPAWNED|LIGHTS",
            "^job",
            "s$",
            "^$",
            "[0-9]{5}",
            "\\b5[0-9]{2}\\b",
            "(?-u:\\b)5[0-9]{2}(?-u:\\b)",
            "0x[A-F]+[0-9]",
            "status\":(4|5).*ms\":1",
            "\\d\\.\\d\\d\\d?[^0-9]",
            "user.*10\\.0\\.2",
            "(free|session).*x{3}",
        ] {
            let search = TextSearch::regex(pattern).unwrap();
            check_search(block, &lines, &search, pattern);
        }
    }
    assert!(TextSearch::regex("(").is_err());
    assert!(TextSearch::literal(&[b'x'; 100_000]).is_err());
}

#[test]
fn searches_take_bytes_that_are_no_text() {
    let lines: Vec<Vec<u8>> = (0..100_u8)
        .map(|i| vec![b'a', i, 0xff, b'0' + i % 10, 0xfe])
        .collect();
    let block = encode(&lines, EncodeEffort::Flush);
    let opened = open(&block, &lines);
    for literal in [&[0xff][..], &[0xff, b'3'], &[7, 0xff], &[0xfe, b'a']] {
        let search = TextSearch::literal(literal).unwrap();
        let expected = lines.iter().filter(|line| search.is_match(line)).count();
        assert_eq!(
            opened.count_matches(&search).unwrap(),
            expected,
            "{literal:?}"
        );
    }
}

#[test]
fn nothing_is_decoded_where_static_text_decides() {
    let lines = log_lines(2000);
    let mut block = encode(&lines, EncodeEffort::Flush);
    // Damage the columns, which are at the end: a search for words does not see it.
    let search = TextSearch::literal(b"logged in from").unwrap();
    let count = open(&block, &lines).count_matches(&search).unwrap();
    let middle = block.len() / 2;
    block[middle..].fill(0xff);
    if let Ok(opened) = TemplateBlock::open(&block, lines.len(), total(&lines)) {
        assert_eq!(opened.count_matches(&search).unwrap(), count);
    }
}

#[test]
fn row_sets_hold_rows() {
    for count in [0, 1, 63, 64, 65, 200] {
        let mut set = RowSet::all(count);
        assert_eq!(set.len(), count);
        assert!(set.iter().eq(0..count as u32));
        let mut odd = RowSet::none(count);
        (0..300)
            .filter(|row| row % 2 == 1)
            .for_each(|row| odd.insert(row));
        set.intersect(&odd);
        assert_eq!(set, odd);
        assert_eq!(set.len(), count / 2);
        assert_eq!(set.is_empty(), count < 2);
        assert!(!set.contains(count as u32 + 1));
    }
}

/// Reads everything that a block offers.
fn read_all(block: &[u8], count: usize, bytes_max: usize, searches: &[TextSearch]) {
    let Ok(opened) = TemplateBlock::open(block, count, bytes_max) else {
        return;
    };
    if let Ok(all) = opened.decode_all() {
        assert_eq!(all.len(), count);
        assert!(all.byte_len() <= bytes_max);
    }
    let rows: Vec<u32> = (0..count as u32).step_by(7).collect();
    let _ = opened.decode_rows(&rows);
    for search in searches {
        let _ = opened.count_matches(search);
        let _ = opened.search(search, &RowSet::all(count));
    }
}

#[test]
fn damaged_blocks_give_errors_or_values() {
    let lines = log_lines(150);
    let searches = ["a1", "5[0-9]"].map(|pattern| TextSearch::regex(pattern).unwrap());
    let block = encode(&lines, EncodeEffort::Flush);
    let size = total(&lines);
    for cut in 0..block.len() {
        let opened = TemplateBlock::open(&block[..cut], lines.len(), size);
        let decoded = opened.and_then(|opened| opened.decode_all());
        assert!(decoded.is_err(), "cut at {cut}");
    }
    for at in 0..block.len() {
        let mut damaged = block.clone();
        damaged[at] ^= [1, 0x80, 0xff][at % 3];
        read_all(&damaged, lines.len(), size, &searches);
    }
    assert!(TemplateBlock::open(&block, lines.len(), size - 1).is_err());
    let more = TemplateBlock::open(&block, lines.len() + 1, size);
    assert!(more.and_then(|opened| opened.decode_all()).is_err());
}

fn any_line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "(GET|PUT|get) /[ab]{1,2}/[0-9]{1,4} (200|500|0200) [0-9]{1,2}\\.[0-9]{2}ms",
        "id=(0x)?[0-9a-f]{1,20} n=[0-9]{1,21}",
        "[a-c]{1,3} [a-c]{1,3}",
        "[A-F0-9]{4,6}-[é0-9]{0,3}",
    ]
    .prop_map(String::into_bytes)
    .boxed()
    .prop_union(proptest::collection::vec(any::<u8>(), 0..30).boxed())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_lines_come_back(lines in proptest::collection::vec(any_line(), 0..150)) {
        let block = encode(&lines, EncodeEffort::Flush);
        let all = open(&block, &lines).decode_all().unwrap();
        prop_assert!(all.iter().eq(lines.iter().map(Vec::as_slice)));
    }

    #[test]
    fn any_search_finds_what_a_scan_finds(
        lines in proptest::collection::vec(
            "(GET|PUT|get) /[ab]{1,2}/[0-9]{1,4} (200|500|0200) [0-9]{1,2}\\.[0-9]{2}ms( 0x[0-9a-f]{1,4})?",
            20..150,
        ),
        from in any::<proptest::sample::Index>(),
        start in any::<proptest::sample::Index>(),
        length in 1_usize..9,
        change in any::<bool>(),
    ) {
        // A piece of a line, perhaps with a byte that is not there.
        let line = from.get(&lines);
        let start = start.index(line.len());
        let mut literal = line[start..(start + length).min(line.len())].to_owned();
        if change {
            literal.push('0');
        }
        let block = encode(&lines, EncodeEffort::Flush);
        check_search(&block, &lines, &TextSearch::literal(literal.as_bytes()).unwrap(), &literal);
        let blind = TextSearch::literal_ignoring_case(&literal.to_uppercase()).unwrap();
        check_search(&block, &lines, &blind, &literal);
        let pattern = format!("{}.*[3-7]0", regex_syntax::escape(&literal));
        check_search(&block, &lines, &TextSearch::regex(&pattern).unwrap(), &pattern);
    }
}
