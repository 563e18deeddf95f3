//! How services do, step by step: calls per second, the part of them that failed, and how long they took, of
//! services or of their operations. Jaeger's monitor asks this; here it is worked out from the spans.
//!
//! Every step looks at the spans that began in a window before it. Time is cut into slots as long as a step;
//! a window is a whole number of slots, which slide. Durations are counted in buckets of a 32nd of a power
//! of two, so that a quantile is off by 3 % at most.

use std::collections::BTreeMap;
use std::sync::Arc;

use chronolith_engine::RequestContext;
use chronolith_engine::model::{SpanKind, SpanStatus, TimeRange, TimestampNs};
use chronolith_engine::rows::{
    AttributeScope, RowOrder, SpanColumnSet, SpanCondition, SpanScanRequest, TextPattern, TextTest,
    ValueTest,
};

use super::error::{Result, TracesError};
use super::fields::SERVICE_NAME;
use super::groups::{self, Groups, KeyPart, NO_GROUP, StreamCache};
use super::listing::{intrinsic, service_field};
use super::source::SpanSource;
use crate::traceql::ast::Intrinsic;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Quantity {
    /// Calls per second.
    Calls,
    /// Failed calls as a part of all.
    Errors,
    /// A quantile (0 to 1) of durations, in nanoseconds.
    Latency(f64),
}

/// Of what, when.
#[derive(Debug, Clone)]
pub struct MonitorRequest {
    /// The services.
    pub services: Vec<String>,
    /// Kinds of spans that are calls; all if there are none.
    pub kinds: Vec<SpanKind>,
    /// One series per operation instead of one per service.
    pub by_operation: bool,
    /// What.
    pub quantity: Quantity,
    /// The first step, milliseconds since the epoch.
    pub start_ms: i64,
    /// No step is later.
    pub end_ms: i64,
    /// Milliseconds from step to step.
    pub step_ms: i64,
    /// Milliseconds that a step looks back; rounded up to whole steps.
    pub window_ms: i64,
}

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub struct MonitorSeries {
    /// The service.
    pub service: String,
    /// The operation, if asked for.
    pub operation: Option<String>,
    /// Milliseconds since the epoch, and the value; steps without calls are left out, except of rates.
    pub points: Vec<(i64, f64)>,
}

/// Steps in one question.
pub const STEPS_MAX: i64 = 11_000;
/// Slots, counters and buckets of one question.
const CELLS_MAX: usize = 1 << 22;
/// Bits of a duration's mantissa that tell buckets apart.
const BUCKET_BITS: u32 = 5;
const BUCKETS: usize = (64 - BUCKET_BITS as usize + 1) << BUCKET_BITS;

/// Computes the series, sorted by service and operation.
///
/// # Errors
/// A range, step or quantile that makes no sense; too many series; what the store says; the deadline.
pub fn monitor(
    source: &dyn SpanSource,
    context: &RequestContext,
    request: &MonitorRequest,
) -> Result<Vec<MonitorSeries>> {
    let slots = Slots::new(request)?;
    let mut fields = vec![service_field()];
    if request.by_operation {
        fields.push(intrinsic(Intrinsic::Name));
    }
    let is_latency = matches!(request.quantity, Quantity::Latency(_));
    let scan = SpanScanRequest {
        conditions: conditions(request),
        order: RowOrder::Any,
        columns: SpanColumnSet {
            name: request.by_operation,
            duration: is_latency,
            status: request.quantity == Quantity::Errors,
            ..SpanColumnSet::default()
        },
        ..SpanScanRequest::new(Vec::new(), slots.range())
    };
    let mut groups = Groups::default();
    let mut streams = StreamCache::default();
    // By group, slot and bucket; of calls bucket 0 counts all, bucket 1 those that failed.
    let mut cells: BTreeMap<(u32, u32, u32), u64> = BTreeMap::new();
    for block in source.scan(context, &scan)? {
        let block = block?;
        let of_rows = groups::of_block(&block, &fields, &mut groups, &mut streams)?;
        for (row, (group, time)) in of_rows.into_iter().zip(&block.time).enumerate() {
            let Some(slot) = slots.of(*time).filter(|_| group != NO_GROUP) else {
                continue;
            };
            let bucket = match is_latency {
                true => bucket(block.duration.get(row).max(0).unsigned_abs()),
                false => 0,
            };
            *cells.entry((group, slot, bucket)).or_default() += 1;
            if block.status.get(row) == SpanStatus::Error as i64 && !is_latency {
                *cells.entry((group, slot, 1)).or_default() += 1;
            }
        }
        if cells.len() > CELLS_MAX {
            let message =
                format!("more than {CELLS_MAX} counters; ask for fewer steps or services");
            return Err(TracesError::TooLarge(message));
        }
    }
    let names = groups.keys();
    let mut series = Vec::with_capacity(names.len());
    for (group, key) in names.iter().enumerate() {
        context.check()?;
        let group = group as u32;
        let counts = cells.range((group, 0, 0)..=(group, u32::MAX, u32::MAX));
        let counts = counts.map(|((_, slot, bucket), count)| (*slot, *bucket, *count));
        let points = slots.points(counts, request.quantity);
        let text = |part: Option<&KeyPart>| match part {
            Some(KeyPart::Str(text)) => text.to_string(),
            _ => String::new(),
        };
        series.push(MonitorSeries {
            service: text(key.first()),
            operation: request.by_operation.then(|| text(key.get(1))),
            points,
        });
    }
    series.sort_by(|a, b| (&a.service, &a.operation).cmp(&(&b.service, &b.operation)));
    Ok(series)
}

fn conditions(request: &MonitorRequest) -> Vec<SpanCondition> {
    let names = request.services.iter();
    let patterns = names.map(|name| TextPattern::Equals(Arc::from(name.as_str())));
    let mut conditions = vec![SpanCondition::Attribute {
        scope: AttributeScope::Resource,
        key: SERVICE_NAME.into(),
        test: ValueTest::Text(TextTest {
            pattern: TextPattern::AnyOf(patterns.collect()),
            negated: false,
        }),
    }];
    let kinds = request
        .kinds
        .iter()
        .fold(0, |bits, kind| bits | 1 << *kind as u8);
    if kinds != 0 {
        conditions.push(SpanCondition::Kind(kinds));
    }
    conditions
}

/// Time as slots: step `i` looks at slots `i` to `i + window - 1`.
struct Slots {
    /// Where slot 0 begins; times at it belong to what was before.
    first_ns: i64,
    slot_ns: i64,
    steps: u32,
    /// Slots of a window.
    window: u32,
    start_ms: i64,
    step_ms: i64,
}

impl Slots {
    fn new(request: &MonitorRequest) -> Result<Self> {
        let fault = |message: String| Err(TracesError::BadRequest(message));
        let (start, end, step) = (request.start_ms, request.end_ms, request.step_ms);
        if let Quantity::Latency(q) = request.quantity
            && !(0.0..=1.0).contains(&q)
        {
            return fault(format!("quantile {q}: expected 0 to 1"));
        }
        let length = end.checked_sub(start).filter(|length| *length >= 0);
        let (Some(length), true) = (length, step > 0 && request.window_ms > 0) else {
            return fault(format!(
                "{start} to {end} ms every {step} ms over {} ms: nothing is in there",
                request.window_ms
            ));
        };
        let steps = length / step + 1;
        let window = (request.window_ms - 1) / step + 1;
        if steps > STEPS_MAX || window > STEPS_MAX {
            return fault(format!(
                "{steps} steps over {window} steps each, at most {STEPS_MAX} are allowed"
            ));
        }
        let (Some(slot_ns), Some(first_ns)) = (
            step.checked_mul(1_000_000),
            window
                .checked_mul(step)
                .and_then(|back| start.checked_sub(back)?.checked_mul(1_000_000)),
        ) else {
            return fault(format!("{start} to {end} ms every {step} ms: out of range"));
        };
        Ok(Self {
            first_ns,
            slot_ns,
            steps: u32::try_from(steps).unwrap_or(u32::MAX),
            window: u32::try_from(window).unwrap_or(u32::MAX),
            start_ms: start,
            step_ms: step,
        })
    }

    fn count(&self) -> u32 {
        self.steps + self.window - 1
    }

    fn range(&self) -> TimeRange {
        let length = self.slot_ns.saturating_mul(i64::from(self.count()));
        TimeRange {
            start: TimestampNs(self.first_ns.saturating_add(1)),
            end: TimestampNs(self.first_ns.saturating_add(length)),
        }
    }

    fn of(&self, time_ns: i64) -> Option<u32> {
        let after = time_ns.checked_sub(self.first_ns)?.checked_sub(1)?;
        let slot = u32::try_from(after.div_euclid(self.slot_ns)).ok()?;
        (slot < self.count()).then_some(slot)
    }

    /// Slides the window over counts that are ascending by slot.
    fn points(
        &self,
        counts: impl Iterator<Item = (u32, u32, u64)>,
        quantity: Quantity,
    ) -> Vec<(i64, f64)> {
        let counts: Vec<_> = counts.collect();
        let mut window = vec![0_u64; BUCKETS];
        let (mut entered, mut left) = (0, 0);
        let mut points = Vec::new();
        for step in 0..self.steps {
            while let Some((_, bucket, count)) = counts
                .get(entered)
                .filter(|(slot, ..)| *slot < step + self.window)
            {
                window[*bucket as usize] += count;
                entered += 1;
            }
            while let Some((_, bucket, count)) = counts.get(left).filter(|(slot, ..)| *slot < step)
            {
                window[*bucket as usize] -= count;
                left += 1;
            }
            let time_ms = self.start_ms + self.step_ms * i64::from(step);
            let (all, failed) = (window[0] as f64, window[1] as f64);
            let value = match quantity {
                Quantity::Calls => {
                    let seconds = self.step_ms as f64 * f64::from(self.window) / 1e3;
                    Some(all / seconds)
                }
                Quantity::Errors => (all > 0.0).then(|| failed / all),
                Quantity::Latency(_) if entered == left => None,
                Quantity::Latency(q) => quantile(&window, q),
            };
            points.extend(value.map(|value| (time_ms, value)));
        }
        points
    }
}

/// The bucket of a duration: exact up to 63 ns, then 32 to a power of two.
fn bucket(ns: u64) -> u32 {
    let top = 63 - (ns | 1).leading_zeros();
    match top.checked_sub(BUCKET_BITS) {
        None => ns as u32,
        Some(shift) => (shift << BUCKET_BITS) + (ns >> shift) as u32,
    }
}

/// The smallest duration of a bucket, and how many it holds.
fn bucket_bounds(bucket: usize) -> (f64, f64) {
    let (row, place) = (bucket >> BUCKET_BITS, bucket & ((1 << BUCKET_BITS) - 1));
    match row.checked_sub(1) {
        None => (place as f64, 0.0),
        Some(shift) => {
            let width = (shift as f64).exp2();
            (((1 << BUCKET_BITS) + place) as f64 * width, width)
        }
    }
}

fn quantile(window: &[u64], q: f64) -> Option<f64> {
    let total: u64 = window.iter().sum();
    let rank = q * total as f64;
    let mut below = 0.0;
    let mut last = None;
    for (bucket, count) in window.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (from, width) = bucket_bounds(bucket);
        let count = *count as f64;
        if below + count >= rank {
            return Some(from + width * ((rank - below) / count).clamp(0.0, 1.0));
        }
        below += count;
        last = Some(from + width);
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traces::sample::spans;

    fn asked(quantity: Quantity, by_operation: bool) -> Vec<MonitorSeries> {
        let request = MonitorRequest {
            services: vec!["shop".to_owned(), "pay".to_owned()],
            kinds: vec![SpanKind::Server],
            by_operation,
            quantity,
            start_ms: 2_000,
            end_ms: 4_000,
            step_ms: 1_000,
            window_ms: 1_500,
        };
        monitor(&spans(), &RequestContext::new(), &request).unwrap()
    }

    #[test]
    fn windows_slide_over_calls() {
        // Windows of two seconds: (0, 2], (1, 3], (2, 4]; shop serves at 1 and 2 s, pay at 1.05 and 2.01 s.
        let calls = asked(Quantity::Calls, false);
        let services: Vec<_> = calls.iter().map(|series| &*series.service).collect();
        assert_eq!(services, ["pay", "shop"]);
        assert_eq!(calls[0].points, [(2_000, 0.5), (3_000, 1.0), (4_000, 0.5)]);
        assert_eq!(calls[1].points, [(2_000, 1.0), (3_000, 0.5), (4_000, 0.0)]);
        let errors = asked(Quantity::Errors, true);
        assert_eq!(errors[0].operation.as_deref(), Some("charge"));
        assert_eq!(errors[0].points, [(2_000, 1.0), (3_000, 0.5), (4_000, 0.0)]);
        let latency = asked(Quantity::Latency(0.5), false);
        // 30 ms and 100 ms: the middle is the end of the first.
        let of_pay = latency[0].points[1].1 / 1e6;
        assert!((29.0..31.0).contains(&of_pay), "{of_pay}");
        assert_eq!(
            latency[1].points.len(),
            2,
            "nothing was served in the last window"
        );
    }

    #[test]
    fn buckets_follow_each_other() {
        let mut last = 0;
        for ns in (0..5_000_u64).chain((13..64).map(|bit| (1 << bit) - 1)) {
            let found = bucket(ns);
            assert!(found >= last, "{ns}");
            last = found;
            let (from, width) = bucket_bounds(found as usize);
            assert!(from <= ns as f64 && ns as f64 <= from + width, "{ns}");
        }
        assert!((bucket(u64::MAX) as usize) < BUCKETS);
    }

    #[test]
    fn senseless_questions_are_refused() {
        let request = MonitorRequest {
            services: Vec::new(),
            kinds: Vec::new(),
            by_operation: false,
            quantity: Quantity::Latency(0.9),
            start_ms: 0,
            end_ms: 10_000,
            step_ms: 1_000,
            window_ms: 1_000,
        };
        let refused = |request: MonitorRequest| {
            let error = monitor(&spans(), &RequestContext::new(), &request).unwrap_err();
            assert!(matches!(error, TracesError::BadRequest(_)), "{error}");
        };
        refused(MonitorRequest {
            step_ms: 0,
            ..request.clone()
        });
        refused(MonitorRequest {
            end_ms: -1,
            ..request.clone()
        });
        refused(MonitorRequest {
            end_ms: i64::MAX,
            ..request.clone()
        });
        refused(MonitorRequest {
            start_ms: i64::MIN,
            ..request.clone()
        });
        refused(MonitorRequest {
            start_ms: i64::MIN,
            end_ms: i64::MIN,
            ..request.clone()
        });
        refused(MonitorRequest {
            window_ms: i64::MAX,
            ..request.clone()
        });
        refused(MonitorRequest {
            quantity: Quantity::Latency(f64::NAN),
            ..request
        });
    }
}
