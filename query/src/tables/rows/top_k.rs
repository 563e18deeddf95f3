//! `ORDER BY time LIMIT n` without a sort: the scan reads the newest or oldest blocks and ends.

use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::sorts::sort::SortExec;

use super::scan::RowScanExec;
use super::{Logs, Signal, Spans};

/// An ordered scan holds blocks whose times overlap until no unread row can precede theirs, at most
/// these many rows of each. Longer answers are sorted by DataFusion, which can spill.
const ROWS_MAX: usize = 10_000;

/// Replaces a sort with a limit right above a scan of rows.
#[derive(Debug)]
pub(crate) struct TimeTopK;

impl PhysicalOptimizerRule for TimeTopK {
    fn optimize(
        &self,
        plan: Arc<dyn ExecutionPlan>,
        _: &ConfigOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let replaced = plan.transform_down(|node| {
            let found = node.downcast_ref::<SortExec>().and_then(|sort| {
                first_by_time::<Logs>(sort).or_else(|| first_by_time::<Spans>(sort))
            });
            Ok(match found {
                Some(scan) => Transformed::yes(scan),
                None => Transformed::no(node),
            })
        })?;
        Ok(replaced.data)
    }

    fn name(&self) -> &str {
        "time_top_k"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn first_by_time<S: Signal>(sort: &SortExec) -> Option<Arc<dyn ExecutionPlan>> {
    let limit = sort.fetch().filter(|limit| *limit <= ROWS_MAX)?;
    let [by] = &sort.expr()[..] else {
        return None;
    };
    let mut input = sort.input();
    // A node that only yields to other tasks now and then.
    while input.name() == "CooperativeExec" {
        input = input.children().first().copied()?;
    }
    let scan = input.downcast_ref::<RowScanExec<S>>()?;
    Some(Arc::new(scan.first_by_time(by, limit)?))
}
