//! OpenTelemetry's names in Prometheus' words.
//!
//! Source: the OpenTelemetry specification "Prometheus and OpenMetrics compatibility" and the
//! behaviour of Prometheus' `otlptranslator` 1.0, which Prometheus 3 uses. Pure functions of text.

use std::borrow::Cow;

use crate::config::OtlpConfig;

/// What the rules for names distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    /// A gauge.
    Gauge,
    /// A sum that only grows.
    MonotonicSum,
    /// Everything else: nothing is appended but the unit.
    Other,
}

/// The rules in force.
#[derive(Clone, Copy, Debug)]
pub struct NameRules {
    /// Bring names into Prometheus' classic form.
    pub escape: bool,
    /// Append unit and type to metric names.
    pub suffixes: bool,
    /// Put `key` before label names that begin with one underscore.
    pub underscore_prefix: bool,
    /// Keep several underscores in a row in label names.
    pub keep_underscores: bool,
}

impl NameRules {
    /// As the configuration has it.
    #[must_use]
    pub fn new(config: &OtlpConfig) -> Self {
        Self {
            escape: config.translation_strategy.escapes(),
            suffixes: config.translation_strategy.adds_suffixes(),
            underscore_prefix: config.label_name_underscore_sanitization,
            keep_underscores: config.label_name_preserve_multiple_underscores,
        }
    }

    /// The name of a metric.
    ///
    /// # Errors
    /// Nothing but underscores would be left of it.
    pub fn metric(&self, name: &str, unit: &str, kind: NameKind) -> Result<String, String> {
        let built = match (self.escape, self.suffixes) {
            (true, true) => classic_with_suffixes(name, unit, kind),
            (true, false) => classic(name),
            (false, true) => unescaped_with_suffixes(name, unit, kind),
            (false, false) => name.to_owned(),
        };
        if built.is_empty() {
            return Err(format!(
                "normalization for metric {name:?} resulted in empty name"
            ));
        }
        if built != name && only_underscores(&built) {
            return Err(format!(
                "normalization for metric {name:?} resulted in invalid name {built:?}"
            ));
        }
        Ok(built)
    }

    /// The name of a label.
    ///
    /// # Errors
    /// It is empty, or nothing but underscores would be left of it.
    pub fn label<'a>(&self, name: &'a str) -> Result<Cow<'a, str>, String> {
        if name.is_empty() {
            return Err("label name is empty".into());
        }
        if !self.escape {
            return match only_underscores(name) {
                true => Err(format!("label name {name:?} contains only underscores")),
                false => Ok(Cow::Borrowed(name)),
            };
        }
        let mut built = self.escape_label(name);
        if built.starts_with(|c: char| c.is_ascii_digit()) {
            built = Cow::Owned(format!("key_{built}"));
        } else if self.underscore_prefix && built.starts_with('_') && !built.starts_with("__") {
            built = Cow::Owned(format!("key{built}"));
        }
        if only_underscores(&built) {
            return Err(format!(
                "normalization for label name {name:?} resulted in invalid name {built:?}"
            ));
        }
        Ok(built)
    }

    fn escape_label<'a>(&self, name: &'a str) -> Cow<'a, str> {
        if self.keep_underscores {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.chars().all(plain) {
                return Cow::Borrowed(name);
            }
            let escaped = name.chars().map(|c| if plain(c) { c } else { '_' });
            return Cow::Owned(escaped.collect());
        }
        // Reserved names (`__x__`) keep their ends.
        let inner = name
            .strip_prefix("__")
            .and_then(|rest| rest.strip_suffix("__"));
        let collapsed = collapse(inner.unwrap_or(name), |c| c.is_ascii_alphanumeric());
        Cow::Owned(match inner {
            Some(_) => format!("__{collapsed}__"),
            None => collapsed,
        })
    }
}

/// A unit in words: `By/s` is `bytes_per_second`. Empty where there is nothing to say.
#[must_use]
pub fn unit_words(unit: &str) -> String {
    let (main, per) = unit_suffixes(unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let words = match (main.is_empty(), per.is_empty()) {
        (false, false) => format!("{main}_{per}"),
        (false, true) => main,
        _ => per,
    };
    let words = words.strip_prefix('_').unwrap_or(&words);
    words.strip_suffix('_').unwrap_or(words).to_owned()
}

fn only_underscores(text: &str) -> bool {
    text.chars().all(|c| c == '_')
}

/// Keeps what `keep` allows; every run of other characters becomes one underscore.
fn collapse(text: &str, keep: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_run = false;
    for c in text.chars() {
        if keep(c) {
            out.push(c);
            in_run = false;
        } else if !in_run {
            out.push('_');
            in_run = true;
        }
    }
    out
}

fn is_metric_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == ':'
}

fn classic(name: &str) -> String {
    let words = name.split(|c: char| !is_metric_char(c) && c != '_');
    let words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    not_digit_first(words.join("_"))
}

fn not_digit_first(name: String) -> String {
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{name}"),
        false => name,
    }
}

fn classic_with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let (main, per) = unit_suffixes(unit);
    let (main, per) = (clean_unit(&main), clean_unit(&per));
    let words = name.split(|c: char| !is_metric_char(c));
    let mut words: Vec<&str> = words.filter(|word| !word.is_empty()).collect();
    push_unit_words(&mut words, &main, &per);
    let mut move_to_end = |word: &'static str| {
        words.retain(|w| *w != word);
        words.push(word);
    };
    if kind == NameKind::MonotonicSum {
        move_to_end("total");
    }
    // Receivers use the unit "1" for counts of things, so only gauges are taken for ratios.
    if unit == "1" && kind == NameKind::Gauge {
        move_to_end("ratio");
    }
    not_digit_first(words.join("_"))
}

/// Adds the words of the unit, unless the name has them already.
fn push_unit_words<'a>(words: &mut Vec<&'a str>, main: &'a str, per: &'a str) {
    let main_known = words.contains(&main);
    let mut main = if main_known { "" } else { main };
    let mut per = if per == "per_" {
        ""
    } else {
        per.strip_suffix('_').unwrap_or(per)
    };
    if words.contains(&per) {
        per = "";
    }
    if !per.is_empty() {
        main = main.strip_suffix('_').unwrap_or(main);
    }
    words.extend([main, per].into_iter().filter(|word| !word.is_empty()));
}

fn unescaped_with_suffixes(name: &str, unit: &str, kind: NameKind) -> String {
    let ratio = unit == "1" && kind == NameKind::Gauge;
    let total = kind == NameKind::MonotonicSum;
    let (main, per) = unit_suffixes(unit);
    let mut stem = name;
    for (wanted, suffix) in [
        (ratio, "ratio"),
        (total, "total"),
        (!per.is_empty(), per.as_ref()),
    ] {
        if wanted {
            stem = without_suffix(stem, suffix);
        }
    }
    let mut out = stem.to_owned();
    if !main.is_empty() && !out.ends_with(main.as_ref()) {
        out = format!("{out}_{main}");
    }
    for (wanted, suffix) in [
        (!per.is_empty(), per.as_ref()),
        (total, "total"),
        (ratio, "ratio"),
    ] {
        if wanted {
            out = format!("{out}_{suffix}");
        }
    }
    out
}

/// Takes off a suffix and the character before it.
fn without_suffix<'a>(name: &'a str, suffix: &str) -> &'a str {
    let Some(stem) = name.strip_suffix(suffix) else {
        return name;
    };
    let mut chars = stem.chars();
    match chars.next_back() {
        Some(_) if !chars.as_str().is_empty() => chars.as_str(),
        _ => name,
    }
}

/// The words of a unit and of what stands behind its `/` (`per_…`); empty where there are none.
fn unit_suffixes(unit: &str) -> (Cow<'_, str>, Cow<'_, str>) {
    let (main, per) = match unit.split_once('/') {
        Some((main, per)) => (main.trim(), per.trim()),
        None => (unit.trim(), ""),
    };
    // Braces hold annotations: `{packet}`.
    let plain = |text: &str| !text.is_empty() && !text.contains(['{', '}']);
    let main = match plain(main) {
        true => Cow::Borrowed(unit_word(main)),
        false => Cow::Borrowed(""),
    };
    let per = match plain(per) {
        true => Cow::Owned(format!("per_{}", per_word(per))),
        false => Cow::Borrowed(""),
    };
    (main, per)
}

/// UCUM's short forms in words; an unknown unit is its own word.
fn unit_word(unit: &str) -> &str {
    match unit {
        "d" => "days",
        "h" => "hours",
        "min" => "minutes",
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        // Not tebibytes: Prometheus 3 has it so, and dashboards ask for its names.
        "TiBy" => "tibibytes",
        "KBy" => "kilobytes",
        "MBy" => "megabytes",
        "GBy" => "gigabytes",
        "TBy" => "terabytes",
        "m" => "meters",
        "V" => "volts",
        "A" => "amperes",
        "J" => "joules",
        "W" => "watts",
        "g" => "grams",
        "Cel" => "celsius",
        "Hz" => "hertz",
        "1" => "",
        "%" => "percent",
        other => other,
    }
}

fn per_word(unit: &str) -> &str {
    match unit {
        "s" => "second",
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        "w" => "week",
        "mo" => "month",
        "y" => "year",
        other => other,
    }
}

fn clean_unit(unit: &str) -> String {
    let clean = collapse(unit, is_metric_char);
    match clean.strip_prefix('_') {
        Some(rest) => rest.to_owned(),
        None => clean,
    }
}

#[cfg(test)]
mod tests {
    use super::NameKind::{Gauge, MonotonicSum, Other};
    use super::*;

    fn rules(escape: bool, suffixes: bool) -> NameRules {
        NameRules {
            escape,
            suffixes,
            underscore_prefix: true,
            keep_underscores: true,
        }
    }

    #[test]
    fn classic_names_get_unit_and_type() {
        for (name, unit, kind, expected) in [
            (
                "http.server.duration",
                "s",
                Other,
                "http_server_duration_seconds",
            ),
            ("requests", "", MonotonicSum, "requests_total"),
            ("requests_total", "", MonotonicSum, "requests_total"),
            ("total.requests", "", MonotonicSum, "requests_total"),
            ("cpu_usage", "1", Gauge, "cpu_usage_ratio"),
            ("ratio_of_cpu", "1", Gauge, "of_cpu_ratio"),
            ("items", "1", MonotonicSum, "items_total"),
            ("system.io", "By", MonotonicSum, "system_io_bytes_total"),
            ("throughput", "By/s", Gauge, "throughput_bytes_per_second"),
            ("requests", "1/s", Gauge, "requests_per_second"),
            ("response_time_seconds", "s", Gauge, "response_time_seconds"),
            ("custom_metric", "{custom}", Gauge, "custom_metric"),
            ("custom_metric", "By/{custom}", Gauge, "custom_metric_bytes"),
            (
                "custom_metric",
                "unit@with#special/chars",
                Gauge,
                "custom_metric_unit_with_special_per_chars",
            ),
            (
                "metric__with__many",
                "unit__many__more",
                Gauge,
                "metric_with_many_unit_many_more",
            ),
            ("123.requests", "", MonotonicSum, "_123_requests_total"),
            ("disk", "TiBy", Gauge, "disk_tibibytes"),
            ("mes:ure", "%", Gauge, "mes:ure_percent"),
            ("respønse", "ms", Other, "resp_nse_milliseconds"),
        ] {
            assert_eq!(
                rules(true, true).metric(name, unit, kind).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn other_strategies_append_or_escape_less() {
        for (escape, suffixes, name, unit, kind, expected) in [
            (
                true,
                false,
                "metric@with#special$chars",
                "s",
                MonotonicSum,
                "metric_with_special_chars",
            ),
            (true, false, "a__b", "", Gauge, "a__b"),
            (true, false, "123metric", "", Gauge, "_123metric"),
            (false, false, "métric.ñ", "By", MonotonicSum, "métric.ñ"),
            (false, true, "requêsts", "", MonotonicSum, "requêsts_total"),
            (
                false,
                true,
                "http.io",
                "By",
                MonotonicSum,
                "http.io_bytes_total",
            ),
            (
                false,
                true,
                "requests",
                "1/s",
                MonotonicSum,
                "requests_per_second_total",
            ),
            (
                false,
                true,
                "cpu_seconds_total",
                "s",
                MonotonicSum,
                "cpu_seconds_total",
            ),
            (false, true, "cpu.usage", "1", Gauge, "cpu.usage_ratio"),
            (false, true, "total", "", MonotonicSum, "total_total"),
        ] {
            assert_eq!(
                rules(escape, suffixes).metric(name, unit, kind).unwrap(),
                expected
            );
        }
    }

    #[test]
    fn names_of_nothing_are_refused() {
        for (escape, suffixes, name) in [
            (true, true, "@#$%"),
            (true, false, "@#$%"),
            (true, true, ""),
            (false, false, ""),
        ] {
            let error = rules(escape, suffixes).metric(name, "", Gauge).unwrap_err();
            assert!(error.contains("resulted in empty name"), "{error}");
        }
        assert!(rules(true, false).metric("_@_", "", Gauge).is_err());
        assert!(
            rules(true, true)
                .metric("\u{1f600}", "", MonotonicSum)
                .is_ok(),
            "total"
        );
    }

    #[test]
    fn label_names_are_escaped() {
        let keep = rules(true, true);
        let collapse = NameRules {
            keep_underscores: false,
            ..keep
        };
        let plain = NameRules {
            underscore_prefix: false,
            ..keep
        };
        for (rules, name, expected) in [
            (keep, "http.method", "http_method"),
            (keep, "a__b", "a__b"),
            (collapse, "a__b..c", "a_b_c"),
            (collapse, "__name..x__", "__name_x__"),
            (keep, "1st", "key_1st"),
            (keep, "_x", "key_x"),
            (keep, ".x", "key_x"),
            (plain, "_x", "_x"),
            (keep, "__address__", "__address__"),
            (keep, "ñ", "key_"),
            (plain, "ñ", "!"),
            (collapse, "___", "key_"),
            (plain, "___", "!"),
            (keep, "", "!"),
            (rules(false, true), "a.b ñ", "a.b ñ"),
            (rules(false, true), "__", "!"),
        ] {
            match rules.label(name) {
                Ok(built) => assert_eq!(built, expected, "{name}"),
                Err(error) => assert_eq!(expected, "!", "{name}: {error}"),
            }
        }
    }

    #[test]
    fn units_are_words() {
        for (unit, expected) in [
            ("s", "seconds"),
            ("By/s", "bytes_per_second"),
            ("1/s", "per_second"),
            ("1", ""),
            ("{x}", ""),
            ("requests/s", "requests_per_second"),
            (" ms ", "milliseconds"),
            ("_odd_", "odd"),
        ] {
            assert_eq!(unit_words(unit), expected, "{unit}");
        }
    }
}
