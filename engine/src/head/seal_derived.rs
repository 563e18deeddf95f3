//! Derived rows of a frozen generation become segments: per tenant, derivation and partition of time,
//! each naming its derivation and the generations that the rows were computed from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::data::DAY_NS;
use super::derived::DerivedHead;
use super::seal::{NewSegment, Sealer, SegmentPlace, Unsaved, partition_days};
use super::series_table::{SeriesTable, TenantIndex, slot_of};
use super::sorted_series::SortedSeries;
use super::tenant::Tenant;
use crate::error::Result;
use crate::model::SeriesRef;
use crate::model::arrived::{ArrivedRow, sort_out};
use crate::segment::SegmentOrigin;

/// Writes the derived rows of a generation. Superseded rows whose place was taken at `horizon` or
/// before are left out.
pub(crate) fn seal_derived(
    place: &SegmentPlace<'_>,
    table: &SeriesTable,
    tenants: &[Arc<Tenant>],
    derived: &DerivedHead,
    horizon: i64,
    origin_of: impl Fn(&Tenant) -> SegmentOrigin,
    unsaved: &mut Unsaved,
) -> Result<Vec<NewSegment>> {
    let mut sealed = Vec::new();
    let slots: Vec<u32> = derived.slots().collect();
    let mut written: BTreeMap<(TenantIndex, &str), Vec<SeriesRef>> = BTreeMap::new();
    for (tenant, all) in table.by_tenant(&slots) {
        for series in all {
            for of_slot in derived.series(slot_of(series)) {
                let key = (tenant, &*of_slot.derivation);
                written.entry(key).or_default().push(series);
            }
        }
    }
    for (index, derivation, sources) in derived.derivations() {
        let Some(tenant) = tenants.iter().find(|tenant| tenant.index == index) else {
            continue;
        };
        let Some(of_derivation) = written.get(&(index, &**derivation)) else {
            continue;
        };
        let rows_of = |series: SeriesRef| -> Vec<ArrivedRow> {
            let all = derived.series(slot_of(series));
            let own = all.iter().filter(|series| series.derivation == *derivation);
            own.flat_map(|series| series.rows().cloned()).collect()
        };
        let mut days = BTreeSet::new();
        for series in of_derivation {
            let rows = rows_of(*series);
            days.extend(rows.iter().map(|row| row.time.div_euclid(DAY_NS)));
        }
        let days: Vec<i64> = days.into_iter().collect();
        let origin = SegmentOrigin {
            derivation: Some(derivation.to_string()),
            sources: sources.iter().copied().collect(),
            ..origin_of(tenant)
        };
        let width = partition_days(&days).saturating_mul(DAY_NS);
        let mut sealer = Sealer::new(place, origin, width);
        // Equal labels in two slots: the slot that was given out later holds the later rows.
        let sorted = SortedSeries::new(table, tenant.owner(), of_derivation);
        for (labels, same) in sorted.groups() {
            let rows: Vec<ArrivedRow> = same.flat_map(rows_of).collect();
            let mut versions = sort_out(rows);
            versions.superseded.retain(|row| row.until > horizon);
            sealer.push_versions(tenant, &labels, versions, Vec::new(), unsaved)?;
        }
        sealer.finish(&mut sealed)?;
    }
    Ok(sealed)
}
