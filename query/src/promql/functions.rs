//! The functions of PromQL: names, argument types, variadics, results; what they compute is in the
//! modules below, by family.

pub mod binary;
pub mod extended;
pub mod extended_histogram;
pub mod hash;
pub mod math;
pub mod numeric;
pub mod over_time;
pub mod range;
pub mod rate;
pub mod rate_grid;
pub mod sum_grid;
pub mod time;
pub mod trend;
pub mod window;

use super::ast::ValueType::{self, Matrix, Scalar, String, Vector};

/// The signature of one function.
#[derive(Debug, PartialEq, Eq)]
pub struct FunctionSignature {
    /// Its name.
    pub name: &'static str,
    /// The types of the arguments; the last one repeats where `variadic` is not 0.
    pub arg_types: &'static [ValueType],
    /// 0: exactly `arg_types`. n > 0: the last argument is optional and may stand up to n times.
    /// Negative: the last argument is optional and may stand any number of times.
    pub variadic: i32,
    /// What it gives.
    pub return_type: ValueType,
    /// Behind the feature `promql-experimental-functions`.
    pub experimental: bool,
}

const fn f(
    name: &'static str,
    arg_types: &'static [ValueType],
    return_type: ValueType,
) -> FunctionSignature {
    FunctionSignature {
        name,
        arg_types,
        variadic: 0,
        return_type,
        experimental: false,
    }
}

const fn variadic(count: i32, mut signature: FunctionSignature) -> FunctionSignature {
    signature.variadic = count;
    signature
}

const fn experimental(mut signature: FunctionSignature) -> FunctionSignature {
    signature.experimental = true;
    signature
}

/// Every function, sorted by name.
pub static FUNCTIONS: &[FunctionSignature] = &[
    f("abs", &[Vector], Vector),
    f("absent", &[Vector], Vector),
    f("absent_over_time", &[Matrix], Vector),
    f("acos", &[Vector], Vector),
    f("acosh", &[Vector], Vector),
    f("asin", &[Vector], Vector),
    f("asinh", &[Vector], Vector),
    f("atan", &[Vector], Vector),
    f("atanh", &[Vector], Vector),
    f("avg_over_time", &[Matrix], Vector),
    f("ceil", &[Vector], Vector),
    f("changes", &[Matrix], Vector),
    f("clamp", &[Vector, Scalar, Scalar], Vector),
    f("clamp_max", &[Vector, Scalar], Vector),
    f("clamp_min", &[Vector, Scalar], Vector),
    f("cos", &[Vector], Vector),
    f("cosh", &[Vector], Vector),
    f("count_over_time", &[Matrix], Vector),
    variadic(1, f("day_of_month", &[Vector], Vector)),
    variadic(1, f("day_of_week", &[Vector], Vector)),
    variadic(1, f("day_of_year", &[Vector], Vector)),
    variadic(1, f("days_in_month", &[Vector], Vector)),
    f("deg", &[Vector], Vector),
    f("delta", &[Matrix], Vector),
    f("deriv", &[Matrix], Vector),
    experimental(f(
        "double_exponential_smoothing",
        &[Matrix, Scalar, Scalar],
        Vector,
    )),
    experimental(f("end", &[], Scalar)),
    f("exp", &[Vector], Vector),
    f("first_over_time", &[Matrix], Vector),
    f("floor", &[Vector], Vector),
    f("histogram_avg", &[Vector], Vector),
    f("histogram_count", &[Vector], Vector),
    f("histogram_fraction", &[Scalar, Scalar, Vector], Vector),
    f("histogram_quantile", &[Scalar, Vector], Vector),
    experimental(variadic(
        9,
        f(
            "histogram_quantiles",
            &[Vector, String, Scalar, Scalar],
            Vector,
        ),
    )),
    f("histogram_stddev", &[Vector], Vector),
    f("histogram_stdvar", &[Vector], Vector),
    f("histogram_sum", &[Vector], Vector),
    variadic(1, f("hour", &[Vector], Vector)),
    f("idelta", &[Matrix], Vector),
    f("increase", &[Matrix], Vector),
    experimental(variadic(1, f("info", &[Vector, Vector], Vector))),
    f("irate", &[Matrix], Vector),
    variadic(
        -1,
        f("label_join", &[Vector, String, String, String], Vector),
    ),
    f(
        "label_replace",
        &[Vector, String, String, String, String],
        Vector,
    ),
    f("last_over_time", &[Matrix], Vector),
    f("ln", &[Vector], Vector),
    f("log10", &[Vector], Vector),
    f("log2", &[Vector], Vector),
    experimental(f("mad_over_time", &[Matrix], Vector)),
    experimental(f("max_of", &[Scalar, Scalar], Scalar)),
    f("max_over_time", &[Matrix], Vector),
    experimental(f("min_of", &[Scalar, Scalar], Scalar)),
    f("min_over_time", &[Matrix], Vector),
    variadic(1, f("minute", &[Vector], Vector)),
    variadic(1, f("month", &[Vector], Vector)),
    f("pi", &[], Scalar),
    f("predict_linear", &[Matrix, Scalar], Vector),
    f("present_over_time", &[Matrix], Vector),
    f("quantile_over_time", &[Scalar, Matrix], Vector),
    f("rad", &[Vector], Vector),
    experimental(f("range", &[], Scalar)),
    f("rate", &[Matrix], Vector),
    f("resets", &[Matrix], Vector),
    variadic(1, f("round", &[Vector, Scalar], Vector)),
    f("scalar", &[Vector], Scalar),
    f("sgn", &[Vector], Vector),
    f("sin", &[Vector], Vector),
    f("sinh", &[Vector], Vector),
    f("sort", &[Vector], Vector),
    experimental(variadic(-1, f("sort_by_label", &[Vector, String], Vector))),
    experimental(variadic(
        -1,
        f("sort_by_label_desc", &[Vector, String], Vector),
    )),
    f("sort_desc", &[Vector], Vector),
    f("sqrt", &[Vector], Vector),
    experimental(f("start", &[], Scalar)),
    experimental(f("start_timestamp", &[Vector], Vector)),
    f("stddev_over_time", &[Matrix], Vector),
    f("stdvar_over_time", &[Matrix], Vector),
    experimental(f("step", &[], Scalar)),
    f("sum_over_time", &[Matrix], Vector),
    f("tan", &[Vector], Vector),
    f("tanh", &[Vector], Vector),
    f("time", &[], Scalar),
    f("timestamp", &[Vector], Vector),
    experimental(f("ts_of_first_over_time", &[Matrix], Vector)),
    experimental(f("ts_of_last_over_time", &[Matrix], Vector)),
    experimental(f("ts_of_max_over_time", &[Matrix], Vector)),
    experimental(f("ts_of_min_over_time", &[Matrix], Vector)),
    f("vector", &[Scalar], Vector),
    variadic(1, f("year", &[Vector], Vector)),
];

/// The function of that name; names are case-sensitive.
pub fn lookup(name: &str) -> Option<&'static FunctionSignature> {
    FUNCTIONS
        .binary_search_by(|s| s.name.cmp(name))
        .ok()
        .map(|i| &FUNCTIONS[i])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_is_sorted() {
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
        assert_eq!(lookup("rate").map(|s| s.return_type), Some(Vector));
        assert_eq!(lookup("Rate"), None);
    }
}
