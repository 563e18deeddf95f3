//! Metrics straight from the columns of a scan.

use chronolith_engine::rows::{RowOrder, SpanBlock, SpanScanRequest};

use super::cells::{CellKind, NO_CELL};
use super::numbers;
use super::{Evaluation, Gathering};
use crate::traceql::ast::*;
use crate::traces::error::Result;
use crate::traces::expr::Program;
use crate::traces::fields::{Needs, SpanView};
use crate::traces::groups::{self, NO_GROUP, StreamCache};
use crate::traces::pushdown;

/// The filter of a query that looks at single spans only.
pub(super) fn filter_of(query: &MetricsQuery, needs: &Needs) -> Option<SpansetFilter> {
    match query.pipeline.stages.as_slice() {
        [Stage::Spansets(SpansetExpr::Filter(filter))] if !needs.whole_trace => {
            Some(filter.clone())
        }
        _ => None,
    }
}

/// Gathers the spans of a filter.
pub(super) fn run(
    evaluation: &Evaluation<'_>,
    query: &MetricsQuery,
    filter: &SpansetFilter,
    needs: Needs,
    gathering: &mut Gathering,
) -> Result<()> {
    let pushed = pushdown::of_filter(filter);
    let is_exact = pushed.is_exact;
    // What an exact condition reads, the scan need not return.
    let needs = match is_exact {
        true => needs_behind_filter(query),
        false => needs,
    };
    let mut columns = needs.columns;
    columns.trace_id |= evaluation.exemplars > 0;
    columns.span_ids |= evaluation.exemplars > 0;
    let request = SpanScanRequest {
        conditions: pushed.into_conditions(),
        order: RowOrder::Any,
        columns,
        attributes: needs.attributes(),
        ..SpanScanRequest::new(Vec::new(), evaluation.steps.range())
    };
    let rest = match (&filter.condition, is_exact) {
        (Some(condition), false) => Some(Program::new(condition)),
        _ => None,
    };
    let mut streams = StreamCache::default();
    for block in evaluation.source.scan(evaluation.context, &request)? {
        let block = block?;
        gather(
            evaluation,
            query,
            rest.as_ref(),
            &block,
            &mut streams,
            gathering,
        )?;
    }
    Ok(())
}

fn needs_behind_filter(query: &MetricsQuery) -> Needs {
    let mut needs = Needs::default();
    let fields = query.by.iter().chain(query.function.field());
    fields.for_each(|field| needs.add(&field.name));
    needs
}

fn gather(
    evaluation: &Evaluation<'_>,
    query: &MetricsQuery,
    rest: Option<&Program>,
    block: &SpanBlock,
    streams: &mut StreamCache,
    gathering: &mut Gathering,
) -> Result<()> {
    let mut groups = match rest {
        None => groups::of_block(block, &query.by, &mut gathering.groups, streams)?,
        // Groups of spans that do not match must not come up.
        Some(program) => {
            let mut groups = Vec::with_capacity(block.rows);
            for row in 0..block.rows {
                let stream = streams.get(block, row)?;
                let view = SpanView {
                    block,
                    row,
                    stream: &stream,
                    trace: None,
                };
                groups.push(match program.is_true(&view) {
                    true => gathering.groups.of_view(&query.by, &view),
                    false => NO_GROUP,
                });
            }
            groups
        }
    };
    groups.truncate(block.time.len());
    let exemplar_groups = (evaluation.exemplars > 0).then(|| groups.clone());
    let cells = gathering.cells_of(&evaluation.steps, groups, &block.time)?;
    let numbers = match query.function.field() {
        None => {
            gathering.cells.count(&cells);
            None
        }
        Some(field) => {
            let is_bucketed = gathering.cells.kind() == CellKind::Buckets;
            let numbers = numbers::of_block(block, &field.name, is_bucketed, streams)?;
            gathering.cells.add(&cells, &numbers)?;
            Some(numbers)
        }
    };
    if let Some(groups) = exemplar_groups {
        let divisor = query
            .function
            .field()
            .map_or(1.0, |field| numbers::divisor(&field.name));
        for (row, (group, cell)) in groups.iter().zip(&cells).enumerate() {
            if *cell != NO_CELL {
                let number = numbers
                    .as_ref()
                    .and_then(|numbers| numbers.get(row).copied());
                let value = number.map_or(f64::NAN, |number| number / divisor);
                gathering.exemplars.offer(*group, block, row, value);
            }
        }
    }
    Ok(())
}
