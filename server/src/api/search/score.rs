//! Likeness of a term and a name, from 0 to 1, in the two ways that Prometheus offers.
//!
//! Both compare characters, not bytes. Sources: the scoring of <https://github.com/Nexucis/fuzzy>,
//! with the figures of Prometheus' own documentation and tests; W. E. Winkler, "String Comparator
//! Metrics and Enhanced Decision Rules in the Fellegi-Sunter Model of Record Linkage" (1990), with
//! the usual prefix weight of 0.1 over at most four characters.

/// How well the characters of `term` are found in `name` in their order; 0 if they are not all there.
///
/// Each run of neighbouring characters counts its length squared; what lies in front of a run and
/// between runs costs its share of the name, what lies behind half of it; all is divided by what a
/// single run would give. Runs are taken greedily, but every possible first character is tried.
pub(super) fn subsequence(term: &[char], name: &str) -> f64 {
    let name: Vec<char> = name.chars().collect();
    if term.is_empty() || term == name.as_slice() {
        return 1.0;
    }
    let Some(last_start) = name.len().checked_sub(term.len()) else {
        return 0.0;
    };
    let mut best = 0.0_f64;
    for start in 0..=last_start {
        if name.get(start) != term.first() {
            continue;
        }
        // What cannot be completed from here cannot from any place further on.
        let Some(score) = greedy(term, &name, start) else {
            break;
        };
        best = best.max(score);
    }
    best / (term.len() * term.len()) as f64
}

/// The score of the runs that begin with the character at `start`.
fn greedy(term: &[char], name: &[char], start: usize) -> Option<f64> {
    let share = 1.0 / name.len() as f64;
    let (mut matched, mut at, mut run_end) = (0, start, 0);
    let mut score = 0.0;
    while let Some(wanted) = term.get(matched) {
        let from = at + name.get(at..)?.iter().position(|c| c == wanted)?;
        let run = term
            .get(matched..)?
            .iter()
            .zip(name.get(from..)?)
            .take_while(|(a, b)| a == b)
            .count();
        score -= (from - run_end) as f64 * share;
        score += (run * run) as f64;
        matched += run;
        at = from + run;
        run_end = at;
    }
    Some(score - (name.len() - run_end) as f64 * share * 0.5)
}

/// Likeness by Jaro and Winkler, as Prometheus computes it.
///
/// The crate `strsim` computes a variant: a common prefix counts only for texts that are alike by more than
/// 0.7, and an odd character out of place is not counted. The scores that clients see would differ.
pub(super) struct JaroWinkler;

impl JaroWinkler {
    /// How alike two texts are as wholes.
    pub(super) fn score(term: &[char], name: &str) -> f64 {
        let name: Vec<char> = name.chars().collect();
        if term == name.as_slice() {
            return 1.0;
        }
        let (short, long) = match term.len() <= name.len() {
            true => (term, name.as_slice()),
            false => (name.as_slice(), term),
        };
        if short.is_empty() {
            return 0.0;
        }
        let jaro = Self::jaro(short, long);
        if jaro == 0.0 {
            return 0.0;
        }
        let pairs = short.iter().zip(long).take(4);
        let prefix = pairs.take_while(|(a, b)| a == b).count();
        jaro + prefix as f64 * 0.1 * (1.0 - jaro)
    }

    fn jaro(short: &[char], long: &[char]) -> f64 {
        // Characters match if they are equal and not further apart than this.
        let reach = (long.len() / 2).saturating_sub(1);
        let mut taken = vec![false; long.len()];
        let mut in_short = Vec::with_capacity(short.len());
        for (index, character) in short.iter().enumerate() {
            let from = index.saturating_sub(reach);
            let to = (index + reach + 1).min(long.len());
            let free = (from..to).find(|&i| !taken[i] && long[i] == *character);
            if let Some(place) = free {
                taken[place] = true;
                in_short.push(*character);
            }
        }
        if in_short.is_empty() {
            return 0.0;
        }
        let in_long = long.iter().zip(&taken).filter(|(_, taken)| **taken);
        let displaced = in_long.zip(&in_short).filter(|((a, _), b)| a != b).count();
        let matches = in_short.len() as f64;
        let in_order = (matches - displaced as f64 * 0.5) / matches;
        (matches / short.len() as f64 + matches / long.len() as f64 + in_order) / 3.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_count_and_gaps_cost() {
        // Worked out by hand from the formula above.
        let cases = [
            ("", "anything", 1.0),
            ("abc", "", 0.0),
            ("text", "text", 1.0),
            // One run of 2 at the start, 13 behind: (4 - 13/30) / 4.
            ("my", "my awesome text", 107.0 / 120.0),
            // 11 in front, a run of 3, 1 behind: (9 - 11/15 - 1/30) / 9.
            ("tex", "my awesome text", 247.0 / 270.0),
            // The second start is better: (9 - 2/5) / 9.
            ("bac", "babac", 43.0 / 45.0),
            // Greedy: runs 0-1 and 3-4, a gap of 1: (4 + 4 - 1/5) / 16.
            ("abaa", "abbaa", 39.0 / 80.0),
            ("éà", "éàü", 23.0 / 24.0),
            ("é", "ã", 0.0),
            ("xyz", "abc", 0.0),
            ("abcd", "abc", 0.0),
        ];
        for (term, name, expected) in cases {
            let term: Vec<char> = term.chars().collect();
            let score = subsequence(&term, name);
            assert!((score - expected).abs() < 1e-9, "{term:?} {name}: {score}");
        }
    }

    #[test]
    fn likeness_has_the_known_figures() {
        // The textbook pairs.
        let cases = [
            ("martha", "marhta", 0.961_111),
            ("dwayne", "duane", 0.84),
            ("dixon", "dicksonx", 0.813_333),
            ("café", "cafe", 0.883_333),
            ("same", "same", 1.0),
            ("abc", "xyz", 0.0),
            ("", "abc", 0.0),
        ];
        for (a, b, expected) in cases {
            let (term, back): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            let score = JaroWinkler::score(&term, b);
            assert!((score - expected).abs() < 1e-4, "{a} {b}: {score}");
            let reversed = JaroWinkler::score(&back, a);
            assert!((score - reversed).abs() < 1e-12, "{a} {b}");
        }
    }
    #[test]
    fn likeness_is_not_the_variant_of_strsim() {
        let cases = [
            // Worked out by hand: 3 of 3 and 3 of 13 characters, all in order, 3 in front.
            ("cpu", "cpu_something", (1.0 + 3.0 / 13.0 + 1.0) / 3.0, 3.0),
            // Little in common but the first characters.
            (
                "up",
                "uptime_of_the_process",
                (1.0 + 2.0 / 21.0 + 1.0) / 3.0,
                2.0,
            ),
            (
                "abxyzq",
                "abcdefghij",
                (2.0 / 6.0 + 2.0 / 10.0 + 1.0) / 3.0,
                2.0,
            ),
        ];
        for (a, b, jaro, prefix) in cases {
            let term: Vec<char> = a.chars().collect();
            let score = JaroWinkler::score(&term, b);
            assert!(
                (score - (jaro + prefix * 0.1 * (1.0 - jaro))).abs() < 1e-12,
                "{a} {b}: {score}"
            );
        }
        let differing = cases.iter().filter(|(a, b, ..)| {
            let term: Vec<char> = a.chars().collect();
            (JaroWinkler::score(&term, b) - strsim::jaro_winkler(a, b)).abs() > 1e-3
        });
        assert_eq!(differing.count(), 2);
    }
}
