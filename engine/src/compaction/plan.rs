//! What to merge and what to drop: metadata in, decision out.

use std::collections::BTreeMap;

use crate::context::TenantId;
use crate::head::data::DAY_NS;
use crate::model::{Generation, SegmentId, Signal, TimeRange};

/// What planning knows of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SegmentFacts {
    pub(crate) id: SegmentId,
    pub(crate) tenant: TenantId,
    pub(crate) signal: Signal,
    pub(crate) derivation: Option<String>,
    pub(crate) level: u8,
    pub(crate) generation: Generation,
    pub(crate) range: TimeRange,
    pub(crate) bytes: u64,
    /// A deletion hides some of its rows.
    pub(crate) has_deleted: bool,
}

/// Segments to be replaced by one that is merged from them, earliest arrival first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MergeJob {
    pub(crate) inputs: Vec<SegmentId>,
}

/// How eager planning is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eagerness {
    /// In the background: only when it pays.
    Background,
    /// Rewrite what deletions hide, and nothing else.
    Erase,
    /// Towards the final form: one segment per group, nothing deleted left in it.
    Final,
}

/// Neighbouring segments of the same level that are merged in the background. Measured on the devops
/// set: each further merge of the same rows costs more than the scans of one day save.
const FAN_IN: usize = 8;
/// Merges that would write more than this wait for the final form.
const BACKGROUND_BYTES_MAX: u64 = 1 << 30;

/// What may be merged: the same owner, kind and span of days.
type Group = (TenantId, Signal, Option<String>, i64, i64);

fn group(facts: &SegmentFacts) -> Group {
    let day = |time: i64| time.div_euclid(DAY_NS);
    (
        facts.tenant.clone(),
        facts.signal,
        facts.derivation.clone(),
        day(facts.range.start.0),
        day(facts.range.end.0),
    )
}

/// The merges to do now, independent of each other.
pub(crate) fn plan_merges(segments: &[SegmentFacts], eagerness: Eagerness) -> Vec<MergeJob> {
    let mut groups: BTreeMap<Group, Vec<&SegmentFacts>> = BTreeMap::new();
    for facts in segments {
        groups.entry(group(facts)).or_default().push(facts);
    }
    let mut jobs = Vec::new();
    for mut members in groups.into_values() {
        members.sort_by_key(|facts| (facts.generation, facts.id));
        let inputs = match eagerness {
            Eagerness::Final => final_inputs(&members),
            Eagerness::Erase => members
                .iter()
                .any(|facts| facts.has_deleted)
                .then_some(&*members),
            Eagerness::Background => background_inputs(&members),
        };
        if let Some(inputs) = inputs {
            jobs.push(MergeJob {
                inputs: inputs.iter().map(|facts| facts.id).collect(),
            });
        }
    }
    jobs
}

fn final_inputs<'a>(members: &'a [&'a SegmentFacts]) -> Option<&'a [&'a SegmentFacts]> {
    // A seal writes rows of logs and spans as a merge does, so that one segment alone gains nothing
    // from being written again; samples become longer chunks.
    let is_final = |facts: &SegmentFacts| {
        let is_in_final_layout = facts.level > 0 || facts.signal != Signal::Metrics;
        is_in_final_layout && !facts.has_deleted
    };
    match members {
        [only] if is_final(only) => None,
        all => Some(all),
    }
}

/// The earliest run of enough neighbours of one level.
fn background_inputs<'a>(members: &'a [&'a SegmentFacts]) -> Option<&'a [&'a SegmentFacts]> {
    members
        .chunk_by(|a, b| a.level == b.level)
        .filter(|run| run.len() >= FAN_IN)
        .find(|run| run.iter().map(|facts| facts.bytes).sum::<u64>() <= BACKGROUND_BYTES_MAX)
}

/// What retention allows one tenant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RetentionRule {
    /// Rows before this time are dropped, nanoseconds.
    pub(crate) oldest: Option<i64>,
    /// Bytes of the tenant's segments together; 0 for no limit.
    pub(crate) bytes_max: u64,
}

/// Segments that retention drops: wholly expired, or the oldest beyond the size of their tenant, or
/// the oldest of all beyond `bytes_max` (0 for no limit).
pub(crate) fn plan_retention(
    segments: &[SegmentFacts],
    rule_of: impl Fn(&TenantId) -> RetentionRule,
    bytes_max: u64,
) -> Vec<SegmentId> {
    let mut dropped = Vec::new();
    let mut tenants: BTreeMap<&TenantId, Vec<&SegmentFacts>> = BTreeMap::new();
    for facts in segments {
        tenants.entry(&facts.tenant).or_default().push(facts);
    }
    let mut kept = Vec::new();
    for (tenant, members) in tenants {
        let rule = rule_of(tenant);
        let expired =
            |facts: &SegmentFacts| rule.oldest.is_some_and(|oldest| facts.range.end.0 < oldest);
        let (gone, members): (Vec<_>, Vec<_>) = members.into_iter().partition(|f| expired(f));
        dropped.extend(gone);
        kept.extend(drop_oldest(members, rule.bytes_max, &mut dropped));
    }
    drop_oldest(kept, bytes_max, &mut dropped);
    dropped.into_iter().map(|facts| facts.id).collect()
}

/// Moves the oldest segments beyond a size to `dropped` and answers the others.
fn drop_oldest<'a>(
    mut segments: Vec<&'a SegmentFacts>,
    bytes_max: u64,
    dropped: &mut Vec<&'a SegmentFacts>,
) -> Vec<&'a SegmentFacts> {
    segments.sort_by_key(|facts| (facts.range.end, facts.id));
    let mut total: u64 = segments.iter().map(|facts| facts.bytes).sum();
    let mut from = 0;
    // The newest stays, whatever its size: a limit must not eat what was just written.
    while bytes_max > 0 && total > bytes_max && from + 1 < segments.len() {
        total -= segments[from].bytes;
        from += 1;
    }
    dropped.extend(segments.drain(..from));
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(id: u64, level: u8, day: i64) -> SegmentFacts {
        SegmentFacts {
            id: SegmentId(id),
            tenant: TenantId::default(),
            signal: Signal::Metrics,
            derivation: None,
            level,
            generation: Generation(id),
            range: TimeRange::new(day * DAY_NS + 1, day * DAY_NS + 100),
            bytes: 1000,
            has_deleted: false,
        }
    }

    fn ids(job: &MergeJob) -> Vec<u64> {
        job.inputs.iter().map(|id| id.0).collect()
    }

    #[test]
    fn the_background_waits_for_enough_neighbours() {
        let mut segments: Vec<_> = (1..FAN_IN as u64).map(|id| facts(id, 0, 1)).collect();
        assert!(plan_merges(&segments, Eagerness::Background).is_empty());
        segments.insert(0, facts(100, 0, 1));
        let jobs = plan_merges(&segments, Eagerness::Background);
        assert_eq!(ids(&jobs[0]), [1, 2, 3, 4, 5, 6, 7, 100]);
    }

    #[test]
    fn other_days_levels_and_tenants_stay_apart() {
        let mut segments: Vec<_> = (1..=6).map(|id| facts(id, 0, 1)).collect();
        segments.extend((7..=12).map(|id| facts(id, 1, 1)));
        segments.extend((13..=18).map(|id| facts(id, 0, 2)));
        assert!(plan_merges(&segments, Eagerness::Background).is_empty());
        let mut other = facts(19, 0, 2);
        other.tenant = TenantId::new("other").unwrap();
        segments.push(other);
        let jobs = plan_merges(&segments, Eagerness::Final);
        assert_eq!(jobs.len(), 3);
        assert_eq!(ids(&jobs[0]).len(), 12);
    }

    #[test]
    fn the_final_form_is_left_alone_unless_rows_were_deleted() {
        let mut only = facts(1, 1, 1);
        assert!(plan_merges(std::slice::from_ref(&only), Eagerness::Final).is_empty());
        only.has_deleted = true;
        assert_eq!(
            plan_merges(std::slice::from_ref(&only), Eagerness::Final).len(),
            1
        );
        assert_eq!(plan_merges(&[facts(1, 0, 1)], Eagerness::Final).len(), 1);
        let mut rows = facts(1, 0, 1);
        rows.signal = Signal::Logs;
        let plan = |segments: &[SegmentFacts]| plan_merges(segments, Eagerness::Final);
        assert!(plan(std::slice::from_ref(&rows)).is_empty());
        let mut second = rows.clone();
        second.id = SegmentId(2);
        assert_eq!(plan(&[rows.clone(), second]).len(), 1);
        rows.has_deleted = true;
        assert_eq!(plan(&[rows]).len(), 1);
    }

    #[test]
    fn erasing_leaves_days_alone_that_have_nothing_deleted() {
        let mut segments = vec![facts(1, 1, 1), facts(2, 0, 1), facts(3, 0, 2)];
        assert!(plan_merges(&segments, Eagerness::Erase).is_empty());
        segments[1].has_deleted = true;
        let jobs = plan_merges(&segments, Eagerness::Erase);
        assert_eq!(jobs.len(), 1);
        assert_eq!(ids(&jobs[0]), [1, 2]);
    }

    #[test]
    fn retention_drops_the_expired_and_then_the_oldest() {
        let segments: Vec<_> = (1..=4).map(|id| facts(id, 1, id as i64)).collect();
        let rule = |oldest, bytes_max| RetentionRule { oldest, bytes_max };
        let ids = |dropped: Vec<SegmentId>| dropped.iter().map(|id| id.0).collect::<Vec<_>>();
        let dropped = |rule| ids(plan_retention(&segments, |_| rule, 0));
        assert_eq!(dropped(rule(None, 0)), Vec::<u64>::new());
        assert_eq!(dropped(rule(Some(2 * DAY_NS + 50), 0)), [1]);
        assert_eq!(dropped(rule(Some(2 * DAY_NS + 200), 0)), [1, 2]);
        assert_eq!(dropped(rule(None, 2500)), [1, 2]);
        assert_eq!(dropped(rule(None, 10)), [1, 2, 3]);
        let all = |bytes_max| ids(plan_retention(&segments, |_| rule(None, 0), bytes_max));
        assert_eq!(all(0), Vec::<u64>::new());
        assert_eq!(all(2500), [1, 2]);
    }

    #[test]
    fn retention_of_one_tenant_spares_the_others() {
        let mut segments: Vec<_> = (1..=6).map(|id| facts(id, 1, id as i64)).collect();
        let other = TenantId::new("other").unwrap();
        for facts in &mut segments[..3] {
            facts.tenant = other.clone();
        }
        let rule_of = |tenant: &TenantId| RetentionRule {
            oldest: (*tenant == other).then_some(2 * DAY_NS),
            bytes_max: if *tenant == other { 0 } else { 2000 },
        };
        let ids = |dropped: Vec<SegmentId>| {
            let mut ids: Vec<u64> = dropped.iter().map(|id| id.0).collect();
            ids.sort_unstable();
            ids
        };
        assert_eq!(ids(plan_retention(&segments, rule_of, 0)), [1, 4]);
        // Then the oldest of all that are left.
        assert_eq!(ids(plan_retention(&segments, rule_of, 3000)), [1, 2, 4]);
    }
}
