//! The feature switches of the query language, with Prometheus' names and defaults.

/// Which parts of the language are on. The default is Prometheus': everything experimental is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// `promql-experimental-functions`: functions and aggregations marked experimental.
    pub experimental_functions: bool,
    /// `promql-extended-range-selectors`: `anchored` and `smoothed`.
    pub extended_range_selectors: bool,
    /// `promql-binop-fill-modifiers`: `fill`, `fill_left`, `fill_right`.
    pub binop_fill_modifiers: bool,
    /// `promql-delayed-name-removal`: the metric name is dropped at the end of the evaluation.
    pub delayed_name_removal: bool,
    /// `use-start-timestamps`: rates and resets use the samples' start timestamps.
    pub use_start_timestamps: bool,
    /// `promql-per-step-stats`: statistics may be asked for per step.
    pub per_step_stats: bool,
    /// `type-and-unit-labels`: decisions by the labels `__type__` and `__unit__`.
    pub type_and_unit_labels: bool,
}

impl Features {
    /// What the conformance scripts assume: everything but decisions by type and unit labels.
    pub fn conformance() -> Self {
        Self {
            experimental_functions: true,
            extended_range_selectors: true,
            binop_fill_modifiers: true,
            delayed_name_removal: true,
            use_start_timestamps: true,
            per_step_stats: true,
            type_and_unit_labels: false,
        }
    }

    /// Turns the feature of that name on; false if the query language has none of that name.
    /// Names that became no-ops are known.
    pub fn enable(&mut self, name: &str) -> bool {
        let switch = match name {
            "promql-experimental-functions" => &mut self.experimental_functions,
            "promql-extended-range-selectors" => &mut self.extended_range_selectors,
            "promql-binop-fill-modifiers" => &mut self.binop_fill_modifiers,
            "promql-delayed-name-removal" => &mut self.delayed_name_removal,
            "use-start-timestamps" => &mut self.use_start_timestamps,
            "promql-per-step-stats" => &mut self.per_step_stats,
            "type-and-unit-labels" => &mut self.type_and_unit_labels,
            "promql-duration-expr" | "native-histograms" => return true,
            _ => return false,
        };
        *switch = true;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_enabled_by_prometheus_names() {
        let mut features = Features::default();
        assert!(features.enable("promql-binop-fill-modifiers") && features.binop_fill_modifiers);
        assert!(features.enable("native-histograms"));
        assert!(!features.enable("search-api"));
    }
}
