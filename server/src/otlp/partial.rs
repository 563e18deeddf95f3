//! What of a request was refused, for `partial_success` in the answer.

/// Reasons that are told; more are counted.
const REASONS_MAX: usize = 8;
/// Bytes of a reason.
const REASON_BYTES_MAX: usize = 512;

/// Refused items and why. Equal reasons are told once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rejections {
    count: u64,
    reasons: Vec<(String, u64)>,
    untold: u64,
}

impl Rejections {
    /// Adds `count` refused items. A count of zero is a warning: something is odd, nothing is lost.
    pub fn add(&mut self, count: u64, reason: String) {
        self.count += count;
        let mut reason = reason;
        if reason.len() > REASON_BYTES_MAX {
            let end = reason.floor_char_boundary(REASON_BYTES_MAX);
            reason.truncate(end);
            reason.push('…');
        }
        if let Some((_, known)) = self.reasons.iter_mut().find(|(known, _)| *known == reason) {
            *known += count;
        } else if self.reasons.len() < REASONS_MAX {
            self.reasons.push((reason, count));
        } else {
            self.untold += 1;
        }
    }

    /// Refused items.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reasons.is_empty()
    }

    /// All reasons in words; empty if there are none.
    #[must_use]
    pub fn message(&self) -> String {
        let mut out = String::new();
        for (reason, count) in &self.reasons {
            if !out.is_empty() {
                out.push_str("; ");
            }
            out.push_str(reason);
            if *count > 1 {
                out.push_str(&format!(" ({count} times)"));
            }
        }
        if self.untold > 0 {
            out.push_str(&format!("; and {} more reasons", self.untold));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_told_once_and_bounded() {
        let mut rejections = Rejections::default();
        assert!(rejections.is_empty() && rejections.message().is_empty());
        rejections.add(1, "a".into());
        rejections.add(2, "a".into());
        rejections.add(0, "b".into());
        assert_eq!(rejections.message(), "a (3 times); b");
        for number in 0..20 {
            rejections.add(1, format!("{number}{}", "é".repeat(400)));
        }
        assert_eq!(rejections.count(), 23);
        assert!(rejections.message().ends_with("; and 14 more reasons"));
        assert!(rejections.message().len() < 8 * 600);
    }
}
