//! Steps that store or delete something.

use super::model::{Document, Op};
use super::observe::COLLECTION;
use super::random::Random;
use super::rows::{HOUR_NS, Request};
use super::step::TENANTS;
use super::world::{Failure, World};
use crate::append::Committed;
use crate::error::{EngineError, Result};
use crate::index::{MatchOp, Matcher};
use crate::model::{Signal, TimeRange};

/// Matchers of which some fit metric series, others streams.
pub(super) fn random_matchers(random: &mut Random) -> Vec<Matcher> {
    let number = random.below(20);
    let matcher = |name: &str, op, value: &str| Matcher::new(name, op, value).unwrap();
    match random.below(9) {
        0 => vec![],
        1 => vec![Matcher::equal("instance", &format!("host-{number}"))],
        2 => vec![matcher("zone", MatchOp::NotEqual, "even")],
        3 => vec![matcher("__name__", MatchOp::Regex, "metric_[01]")],
        4 => vec![
            matcher("__name__", MatchOp::NotRegex, "metric_1|other"),
            matcher("instance", MatchOp::Regex, "host-1.*"),
        ],
        5 => vec![matcher("zone", MatchOp::Equal, "")],
        6 => vec![Matcher::equal("app", &format!("app-{}", number % 3))],
        7 => vec![matcher("number", MatchOp::Regex, "[1-3]")],
        _ => vec![matcher("absent", MatchOp::Equal, "")],
    }
}

/// A range around now, often all.
pub(super) fn random_range(random: &mut Random, now: i64) -> TimeRange {
    match random.below(4) {
        0 => TimeRange::ALL,
        1 => TimeRange::new(now - random.below(120) as i64 * 1_000_000_000, now),
        _ => {
            let start = now - random.below(60) as i64 * HOUR_NS;
            TimeRange::new(start, start + random.below(30) as i64 * HOUR_NS)
        }
    }
}

impl World {
    pub(super) fn append(&mut self, tenant: usize, seed: u64) -> Result<(), Failure> {
        let request = Request::new(seed, tenant, self.now());
        self.send(request)
    }

    pub(super) fn retry(&mut self) -> Result<(), Failure> {
        match self.last_request.take() {
            Some(request) => self.send(request),
            None => Ok(()),
        }
    }

    pub(super) fn send(&mut self, request: Request) -> Result<(), Failure> {
        let result = self.try_send(&request);
        self.last_request = Some(request.clone());
        let op = Op::Append(request, self.arrival());
        self.settled(op, result).map(|_| ())
    }

    fn try_send(&self, request: &Request) -> Result<Committed> {
        let mut append = self.store().begin(&self.contexts[request.tenant])?;
        request.fill(&mut append)?;
        append.commit()
    }

    pub(super) fn abandon(&mut self, tenant: usize, seed: u64) -> Result<(), Failure> {
        let request = Request::new(seed, tenant, self.now());
        let abandoned = self
            .store()
            .begin(&self.contexts[tenant])
            .and_then(|mut append| request.fill(&mut append));
        match abandoned {
            Ok(()) => Ok(()),
            Err(error) => self.refusal(&error),
        }
    }

    /// Requests that wait together share one write and one sync. The order of their arrival is that
    /// in which they were handed over.
    pub(super) fn burst(&mut self, seed: u64, flush: bool) -> Result<(), Failure> {
        let mut random = Random::new(seed);
        let requests: Vec<_> = (0..2 + random.below(6))
            .map(|_| {
                let tenant = random.below(TENANTS) as usize;
                Request::new(random.next(), tenant, self.now())
            })
            .collect();
        let mut answers = Vec::new();
        for request in &requests {
            let (sender, receiver) = std::sync::mpsc::channel();
            let submitted =
                self.store()
                    .begin(&self.contexts[request.tenant])
                    .and_then(|mut append| {
                        request.fill(&mut append)?;
                        append.submit(move |result| drop(sender.send(result)));
                        Ok(())
                    });
            answers.push(submitted.map(|()| receiver));
        }
        let flushed = if flush { self.store().flush() } else { Ok(()) };
        let answers: Vec<Result<Committed>> = answers
            .into_iter()
            .map(|answer| answer.and_then(|receiver| receiver.recv().expect("an answer")))
            .collect();
        for (request, answer) in requests.into_iter().zip(answers) {
            let op = Op::Append(request, self.arrival());
            self.settled(op, answer)?;
        }
        if self.upkeep(flushed)? && flush {
            self.model.durable();
        }
        Ok(())
    }

    pub(super) fn append_across_flush(&mut self, tenant: usize, seed: u64) -> Result<(), Failure> {
        let request = Request::new(seed, tenant, self.now());
        let store = self.store().clone();
        let mut flushed = Ok(());
        let begun = store
            .begin(&self.contexts[tenant])
            .and_then(|mut append| request.fill(&mut append).map(|()| append));
        let result = begun.and_then(|append| {
            flushed = store.flush();
            append.commit()
        });
        if self.upkeep(flushed)? {
            self.model.durable();
        }
        let op = Op::Append(request, self.arrival());
        self.settled(op, result).map(|_| ())
    }

    pub(super) fn delete(&mut self, tenant: usize, seed: u64) -> Result<(), Failure> {
        let mut random = Random::new(seed);
        let signal = *random.pick(&[
            Signal::Metrics,
            Signal::Metrics,
            Signal::Logs,
            Signal::Spans,
        ]);
        let matchers = random_matchers(&mut random);
        let range = random_range(&mut random, self.now());
        self.trace
            .push(format!("  {signal:?} {matchers:?} {range:?}"));
        let result = self
            .store()
            .delete(&self.contexts[tenant], signal, &matchers, range);
        let op = Op::Delete {
            tenant,
            signal,
            matchers,
            range,
        };
        if let Some(generation) = self.settled(op, result)? {
            if generation.0 <= self.generation_max {
                let before = self.generation_max;
                return Err(format!("deletion {generation} came after {before}"));
            }
            self.generation_max = generation.0;
        }
        Ok(())
    }

    pub(super) fn change_state(&mut self, tenant: usize, seed: u64) -> Result<(), Failure> {
        let mut random = Random::new(seed);
        let key = format!("key-{}", random.below(4));
        let context = self.contexts[tenant].clone();
        let known = self.model.document(tenant, &key);
        let actual = known.map_or(Some(0), |document| document.version);
        let expected = match random.below(3) {
            0 => None,
            1 => actual,
            // Never the version of any document.
            _ => Some(u64::MAX - random.below(9)),
        };
        let value = (random.below(3) > 0).then(|| random.next().to_le_bytes().to_vec());
        let store = self.store().clone();
        let result = match &value {
            Some(value) => store.state_put(&context, COLLECTION, &key, expected, value),
            None => store
                .state_delete(&context, COLLECTION, &key, expected)
                .map(|()| 0),
        };
        self.trace
            .push(format!("  {key} {expected:?} {value:?}: {result:?}"));
        let is_conflict = matches!(result, Err(EngineError::VersionConflict { .. }));
        if expected.is_some() && expected != actual {
            return match result {
                Err(error) if !is_conflict => self.refusal(&error),
                Err(_) => Ok(()),
                Ok(_) => Err(format!("expected version {expected:?}, is {actual:?}")),
            };
        }
        if let Ok(version) = result
            && value.is_some()
        {
            if version <= self.version_max {
                let before = self.version_max;
                return Err(format!("{key}: version {version} came after {before}"));
            }
            self.version_max = version;
        }
        let to = value.map(|value| Document {
            version: result.as_ref().ok().copied(),
            value,
        });
        self.settled(Op::Document { tenant, key, to }, result)
            .map(|_| ())
    }
}
