//! Which names match what is looked for, and how well.
//!
//! As Prometheus has it. Several terms: a name matches if it matches one of them, with the highest
//! score. A name that begins with the term scores 1. Then `subsequence` takes names that have the
//! characters of the term in their order; `jarowinkler` takes names that have the term in them (0.9)
//! and, with a threshold above 0, names that are similar as a whole.

use super::score::{JaroWinkler, subsequence};

/// How names that have not quite the term are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Subsequence,
    JaroWinkler,
}

/// The score of names that have the term somewhere.
const INSIDE: f64 = 0.9;

/// What is looked for.
#[derive(Debug)]
pub(super) struct Filter {
    terms: Vec<Term>,
    algorithm: Algorithm,
    threshold: f64,
    case_sensitive: bool,
}

#[derive(Debug)]
struct Term {
    text: String,
    characters: Vec<char>,
}

impl Filter {
    /// A filter of terms; without one it takes everything. `threshold` in percent.
    pub(super) fn new(
        terms: &[&str],
        algorithm: Algorithm,
        threshold: u8,
        case_sensitive: bool,
    ) -> Self {
        let terms = terms.iter().map(|term| {
            let text = match case_sensitive {
                true => (*term).to_owned(),
                false => term.to_lowercase(),
            };
            let characters = text.chars().collect();
            Term { text, characters }
        });
        Self {
            terms: terms.collect(),
            algorithm,
            threshold: f64::from(threshold) / 100.0,
            case_sensitive,
        }
    }

    /// Whether it takes everything because nothing is looked for.
    pub(super) fn is_open(&self) -> bool {
        self.terms.is_empty()
    }

    /// How well a name matches, from 0 to 1; `None` if it does not.
    pub(super) fn score(&self, name: &str) -> Option<f64> {
        if self.is_open() {
            return Some(1.0);
        }
        let lower;
        let name = match self.case_sensitive {
            true => name,
            false => {
                lower = name.to_lowercase();
                &lower
            }
        };
        let scores = self.terms.iter().filter_map(|term| self.term(term, name));
        scores.max_by(f64::total_cmp)
    }

    fn term(&self, term: &Term, name: &str) -> Option<f64> {
        if name.starts_with(&term.text) {
            return Some(1.0);
        }
        match self.algorithm {
            Algorithm::Subsequence => {
                let score = subsequence(&term.characters, name);
                (score > 0.0 && score >= self.threshold).then_some(score)
            }
            Algorithm::JaroWinkler if name.contains(&term.text) => Some(INSIDE),
            Algorithm::JaroWinkler if self.threshold > 0.0 => {
                let score = JaroWinkler::score(&term.characters, name);
                (score >= self.threshold).then_some(score)
            }
            Algorithm::JaroWinkler => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_by_start_part_or_likeness() {
        use Algorithm::{JaroWinkler, Subsequence};
        let name = "http_requests_total";
        let cases = [
            (&["http"][..], Subsequence, 100, Some(1.0)),
            (&["hrt"], Subsequence, 90, None),
            (&["xyz"], Subsequence, 0, None),
            (&["requests"], JaroWinkler, 0, Some(0.9)),
            (&["http_reqests_total"], JaroWinkler, 0, None),
            (&["xyz", "requests"], JaroWinkler, 0, Some(0.9)),
            (&[""], JaroWinkler, 0, Some(1.0)),
            (&[], Subsequence, 0, Some(1.0)),
        ];
        for (terms, algorithm, threshold, expected) in cases {
            let filter = Filter::new(terms, algorithm, threshold, true);
            assert_eq!(filter.score(name), expected, "{terms:?} {algorithm:?}");
        }
        let near = Filter::new(&["http_reqests_total"], JaroWinkler, 90, true);
        assert!(near.score(name).is_some_and(|score| score > 0.97));
        let scattered = Filter::new(&["hrt"], Subsequence, 0, true);
        assert!(scattered.score(name).is_some_and(|score| score > 0.0));
    }

    #[test]
    fn case_counts_unless_said_otherwise() {
        let filter = |sensitive| Filter::new(&["UP"], Algorithm::Subsequence, 0, sensitive);
        assert_eq!(filter(true).score("up"), None);
        assert_eq!(filter(false).score("Up"), Some(1.0));
    }
}
