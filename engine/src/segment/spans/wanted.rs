//! Which columns conditions look at.

use std::sync::Arc;

use super::block_reader::Wanted;
use crate::rows::{AttributeChoice, AttributeScope, SpanCondition};

fn add_key(choice: &mut AttributeChoice, key: &Arc<str>) {
    match choice {
        AttributeChoice::None => *choice = AttributeChoice::Keys(vec![Arc::clone(key)]),
        AttributeChoice::Keys(keys) => keys.push(Arc::clone(key)),
        AttributeChoice::All => {}
    }
}

impl Wanted {
    /// What a condition needs to be decided.
    pub(super) fn of(condition: &SpanCondition) -> Self {
        let mut wanted = Self::default();
        wanted.add(condition);
        wanted
    }

    fn add(&mut self, condition: &SpanCondition) {
        match condition {
            SpanCondition::Trace(_) => self.columns.trace_id = true,
            SpanCondition::Name(_) => self.columns.name = true,
            SpanCondition::Kind(_) => self.columns.kind = true,
            SpanCondition::Status(_) => self.columns.status = true,
            SpanCondition::StatusMessage(_) => self.columns.details = true,
            SpanCondition::Duration(_) => self.columns.duration = true,
            SpanCondition::Root => self.columns.span_ids = true,
            SpanCondition::Attribute { scope, key, .. } => match scope {
                AttributeScope::Row => add_key(&mut self.attributes, key),
                AttributeScope::Resource | AttributeScope::Instrumentation => self.stream = true,
                AttributeScope::Event => {
                    self.columns.events = true;
                    add_key(&mut self.event_attributes, key);
                }
                AttributeScope::Link => {
                    self.columns.links = true;
                    add_key(&mut self.link_attributes, key);
                }
            },
            SpanCondition::Any(conditions) | SpanCondition::All(conditions) => {
                conditions.iter().for_each(|condition| self.add(condition));
            }
        }
    }
}
