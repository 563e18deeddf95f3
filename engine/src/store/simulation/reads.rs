//! Steps that only look.

use super::model::{Contents, TenantContents};
use super::observe::{observe, observe_rows, read_metrics};
use super::random::Random;
use super::rows;
use super::world::{Failure, World};
use super::writes::{random_matchers, random_range};
use crate::index::Matcher;
use crate::model::{Labels, TimeRange, TimestampNs};
use crate::scan::ScanRequest;

impl TenantContents {
    /// What a scan must find.
    fn selected(&self, matchers: &[Matcher], range: TimeRange) -> Self {
        let matches = |labels: &Labels| matchers.iter().all(|m| m.matches_labels(labels));
        let inside = |time: i64| range.contains(TimestampNs(time));
        let mut found = Self::default();
        for (labels, cells) in self.series.iter().filter(|(labels, _)| matches(labels)) {
            let cells: std::collections::BTreeMap<_, _> = cells
                .iter()
                .filter(|(time, _)| inside(**time))
                .map(|(time, cell)| (*time, *cell))
                .collect();
            if !cells.is_empty() {
                found.series.insert(labels.clone(), cells);
            }
        }
        for (stream, all) in &self.logs {
            let all: Vec<_> = all.iter().filter(|row| inside(row.0)).copied().collect();
            if matches(&rows::stream(*stream).labels) && !all.is_empty() {
                found.logs.insert(*stream, all);
            }
        }
        for (row, version) in &self.spans {
            if inside(row.1) && matches(&rows::stream(row.0).labels) {
                found.spans.insert(*row, *version);
            }
        }
        found
    }
}

impl World {
    pub(super) fn scan(&mut self, seed: u64) -> Result<(), Failure> {
        let mut random = Random::new(seed);
        let matchers = random_matchers(&mut random);
        let mut range = random_range(&mut random, self.now());
        range.start = range.start.max(TimestampNs(self.model.floor));
        for tenant in 0..self.contexts.len() {
            let context = &self.contexts[tenant];
            let fail = |error: String| format!("scan of {matchers:?} in {range:?}: {error}");
            let shown = observe_rows(self.store(), context, &matchers, range)
                .map_err(|error| fail(error.to_string()))?;
            if range == TimeRange::ALL {
                let listed = self
                    .store()
                    .series(context, std::slice::from_ref(&matchers), range, None)
                    .map_err(|error| fail(error.to_string()))?;
                if !listed.iter().eq(shown.series.keys()) {
                    let scanned = shown.series.keys();
                    return Err(fail(format!("listed {listed:?}, scanned {scanned:?}")));
                }
            }
            let shown = Contents::of(tenant, shown);
            self.model
                .observe(|now| {
                    let expected = now.tenants[tenant].selected(&matchers, range);
                    Contents::of(tenant, expected).difference(&shown, i64::MIN)
                })
                .map_err(fail)?;
        }
        Ok(())
    }

    /// Pins a scan, changes the store under it, and reads.
    pub(super) fn pinned_scan(&mut self, tenant: usize, seed: u64) -> Result<(), Failure> {
        let request = ScanRequest::new(vec![], TimeRange::ALL);
        let scan = self
            .store()
            .scan_metrics(&self.contexts[tenant], &request)
            .map_err(|error| error.to_string())?;
        let floor = self.model.floor;
        match seed % 3 {
            0 => self.flush()?,
            1 => self.compact()?,
            _ => {
                self.append(tenant, seed)?;
                self.flush()?;
            }
        }
        let mut found = TenantContents::default();
        read_metrics(&scan, TimeRange::ALL, &mut found).map_err(|error| error.to_string())?;
        // What arrives while a scan is open may be seen by it; nothing may get lost.
        if seed % 3 == 2 {
            return Ok(());
        }
        let found = Contents::of(tenant, found);
        self.model
            .observe(|now| {
                let mut pinned = TenantContents::default();
                pinned.series.clone_from(&now.tenants[tenant].series);
                Contents::of(tenant, pinned).difference(&found, floor)
            })
            .map_err(|difference| format!("a pinned scan: {difference}"))
    }

    /// A reader sees what is acknowledged, and perhaps what is in doubt.
    pub(super) fn read_beside(&mut self) -> Result<(), Failure> {
        let reader = match self.reader.take() {
            Some(reader) => reader.refresh().map(|()| reader),
            None => self.open_reader(),
        };
        let reader = reader.map_err(|error| format!("the reader: {error}"))?;
        let shown =
            observe(&reader, &self.contexts).map_err(|error| format!("the reader: {error}"))?;
        self.reader = Some(reader);
        // Where the writer could not mark the end of the log, the last requests are not seen yet.
        if self.had_trouble() {
            return Ok(());
        }
        match self.model.explain(&shown, false) {
            Ok(_) => Ok(()),
            Err(difference) => Err(format!("the reader: {difference}")),
        }
    }
}
