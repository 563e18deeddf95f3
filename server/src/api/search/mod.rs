//! `/api/v1/search/{metric_names,label_names,label_values}`: finds names and values by parts of
//! them, near or far, for whoever completes a query while it is being typed.
//!
//! Behind the feature `search-api`, as in Prometheus. Of all that the store has, no more is held than
//! the answer is long ([`Best`]) and one segment's list; the answer goes out in batches, a line of
//! JSON each, and a last line that says whether there would be more.

mod best;
mod filter;
mod score;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use chronolith_engine::model::{METRIC_NAME, Metadata, TimeRange};
use chronolith_engine::{EngineError, Matcher, RequestContext, Store};
use http::header;

use best::{Best, Found, Order};
use filter::{Algorithm, Filter};

use super::params::Params;
use super::selectors::matcher_sets;
use crate::active::ActiveQuery;
use crate::error::{ApiError, ErrorType};
use crate::request::Caller;
use crate::state::AppState;
use crate::telemetry::now_ms;
use crate::wire::{json, number};

/// The feature that must be on.
pub const FEATURE: &str = "search-api";
/// What a request may look for at the same time.
const TERMS_MAX: usize = 32;
/// Bytes of a term.
const TERM_BYTES_MAX: usize = 1024;
/// Results of an answer and of a batch when nothing is said.
const RESULTS_DEFAULT: usize = 100;
/// How far back is looked when nothing is said.
const LOOK_BACK_MS: i64 = 3_600_000;
/// Names looked at between two looks at the clock.
const NAMES_PER_CHECK: usize = 1024;

/// `GET|POST /api/v1/search/metric_names`
pub async fn metric_names(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let search = Search::of(&state, &params, "metric_names")?;
    let with_metadata = boolean(&params, "include_metadata", false)?;
    let subject = Subject::LabelValues(METRIC_NAME.to_owned());
    run(&state, caller, &params, search, subject, with_metadata).await
}

/// `GET|POST /api/v1/search/label_names`
pub async fn label_names(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let search = Search::of(&state, &params, "label_names")?;
    run(&state, caller, &params, search, Subject::LabelNames, false).await
}

/// `GET|POST /api/v1/search/label_values`
pub async fn label_values(
    State(state): State<AppState>,
    caller: Caller,
    params: Params,
) -> Result<Response, ApiError> {
    let search = Search::of(&state, &params, "label_values")?;
    let Some(label) = params.get_filled("label") else {
        let message = "missing required parameter \"label\"";
        return Err(ApiError::bad_data(message));
    };
    let subject = Subject::LabelValues(label.to_owned());
    run(&state, caller, &params, search, subject, false).await
}

/// What is looked through.
enum Subject {
    LabelNames,
    LabelValues(String),
}

/// A request.
struct Search {
    sets: Vec<Vec<Matcher>>,
    range: TimeRange,
    filter: Filter,
    order: Order,
    limit: usize,
    batch: usize,
    with_score: bool,
}

impl Search {
    /// Reads the parameters that all three have.
    fn of(state: &AppState, params: &Params, endpoint: &str) -> Result<Self, ApiError> {
        let settings = state.settings();
        if !settings.enable_feature.iter().any(|name| name == FEATURE) {
            let message = "search API disabled; start the server with --enable-feature=search-api";
            return Err(ApiError::new(ErrorType::Forbidden, message));
        }
        let sets = matcher_sets(params)?;
        let range = range(params)?;
        let filter = filter(params)?;
        let order = order(params, endpoint, filter.is_open())?;
        let limit_max = match settings.search_limit_max {
            0 => usize::MAX - 1,
            max => max as usize,
        };
        let limit = match counted(params, "limit")? {
            None => RESULTS_DEFAULT.min(limit_max),
            Some(limit) if limit > limit_max => {
                let message = format!("limit {limit} exceeds maximum of {limit_max}");
                return Err(ApiError::bad_data(message));
            }
            Some(limit) => limit,
        };
        Ok(Self {
            sets,
            range,
            filter,
            order,
            limit,
            batch: counted(params, "batch_size")?.unwrap_or(RESULTS_DEFAULT),
            with_score: boolean(params, "include_score", false)?,
        })
    }

    /// The best matches, one more than the limit if there are as many.
    fn find(
        &self,
        store: &Store,
        context: &RequestContext,
        subject: &Subject,
    ) -> Result<Vec<Found>, EngineError> {
        let mut best = Best::new(self.order, self.limit.saturating_add(1));
        let mut unchecked = 0;
        let mut visit = |name: &str| {
            unchecked += 1;
            if unchecked == NAMES_PER_CHECK {
                unchecked = 0;
                context.check()?;
            }
            if let Some(score) = self.filter.score(name) {
                best.offer(name, score);
            }
            Ok(())
        };
        let everything = [Vec::new()];
        let sets = match self.sets.as_slice() {
            [] => &everything[..],
            sets => sets,
        };
        for set in sets {
            match subject {
                Subject::LabelNames => {
                    store.visit_label_names(context, set, self.range, &mut visit)?;
                }
                Subject::LabelValues(label) => {
                    store.visit_label_values(context, label, set, self.range, &mut visit)?;
                }
            }
        }
        Ok(best.into_sorted())
    }
}

/// The last hour, unless something else is said.
fn range(params: &Params) -> Result<TimeRange, ApiError> {
    let now_ms = now_ms();
    let start_ms = params.time_ms("start")?.unwrap_or(now_ms - LOOK_BACK_MS);
    let end_ms = params.time_ms("end")?.unwrap_or(now_ms);
    if end_ms < start_ms {
        let reason = "end timestamp must not be before start time";
        return Err(ApiError::parameter("end", reason));
    }
    Ok(TimeRange::from_millis(start_ms, end_ms))
}

fn filter(params: &Params) -> Result<Filter, ApiError> {
    let threshold = match params.get_filled("fuzz_threshold") {
        None => 0,
        Some(text) => match text.parse::<u8>() {
            Ok(percent @ 0..=100) => percent,
            _ => {
                let message = format!("invalid fuzz_threshold {text:?}: must be 0-100");
                return Err(ApiError::bad_data(message));
            }
        },
    };
    let algorithm = match params.get_filled("fuzz_alg") {
        None | Some("subsequence") => Algorithm::Subsequence,
        Some("jarowinkler") => Algorithm::JaroWinkler,
        Some(other) => {
            return Err(ApiError::bad_data(format!(
                "unsupported fuzz_alg {other:?}: must be one of [subsequence jarowinkler]"
            )));
        }
    };
    let case_sensitive = boolean(params, "case_sensitive", true)?;
    let terms: Vec<&str> = params.all("search[]").take(TERMS_MAX + 1).collect();
    if terms.len() > TERMS_MAX {
        let message = format!("too many search[] values: at most {TERMS_MAX} are allowed");
        return Err(ApiError::bad_data(message));
    }
    if let Some(long) = terms.iter().find(|term| term.len() > TERM_BYTES_MAX) {
        return Err(ApiError::bad_data(format!(
            "search[] value of {} bytes: at most {TERM_BYTES_MAX} are allowed",
            long.len()
        )));
    }
    Ok(Filter::new(&terms, algorithm, threshold, case_sensitive))
}

fn order(params: &Params, endpoint: &str, is_open: bool) -> Result<Order, ApiError> {
    let by = params.get_filled("sort_by");
    let direction = params.get_filled("sort_dir");
    let refused = |message: &str| Err(ApiError::bad_data(message));
    match (by, direction) {
        (None, Some(_)) => refused("sort_dir is only valid when sort_by is set"),
        (Some("score"), Some(_)) => refused("sort_dir is not supported for sort_by=score"),
        (_, Some(other)) if !matches!(other, "asc" | "dsc") => Err(ApiError::bad_data(format!(
            "invalid sort_dir {other:?}: must be \"asc\" or \"dsc\""
        ))),
        (Some("score"), None) if is_open => refused("sort_by=score requires search[] to be set"),
        (Some("score"), None) => Ok(Order::Score),
        (Some("alpha"), Some("dsc")) => Ok(Order::Descending),
        (None | Some("alpha"), _) => Ok(Order::Ascending),
        (Some(other), _) => Err(ApiError::bad_data(format!(
            "invalid sort_by {other:?} for {endpoint}: must be \"alpha\" or \"score\""
        ))),
    }
}

fn boolean(params: &Params, name: &str, default: bool) -> Result<bool, ApiError> {
    match params.get_filled(name) {
        None => Ok(default),
        Some(text) => params
            .flag(name)
            .map_err(|_| ApiError::bad_data(format!("invalid {name} {text:?}: must be boolean"))),
    }
}

/// A number above 0; `None` if it is missing or 0, which leaves it to the server.
fn counted(params: &Params, name: &str) -> Result<Option<usize>, ApiError> {
    let Some(text) = params.get_filled(name) else {
        return Ok(None);
    };
    let number: usize = text.parse().map_err(|_| {
        ApiError::bad_data(format!(
            "invalid {name} {text:?}: must be non-negative integer"
        ))
    })?;
    Ok((number > 0).then_some(number))
}

async fn run(
    state: &AppState,
    caller: Caller,
    params: &Params,
    search: Search,
    subject: Subject,
    with_metadata: bool,
) -> Result<Response, ApiError> {
    let timeout = params.timeout(state.settings().query_timeout)?;
    let asked = params.shown_after(match &subject {
        Subject::LabelNames => "search/label_names",
        Subject::LabelValues(label) if label == METRIC_NAME => "search/metric_names",
        Subject::LabelValues(_) => "search/label_values",
    });
    let (mut query, context) =
        ActiveQuery::begin(state, &caller, ("search", &asked), timeout).await?;
    let (limit, batch) = (search.limit, search.batch);
    let with_score = search.with_score;
    let found = state
        .blocking(move |state| {
            let store = state.store();
            let mut found = search.find(store, &context, &subject)?;
            if with_metadata {
                for one in found.iter_mut().take(limit) {
                    let mut known = store.metadata(&context, Some(&one.name))?;
                    let newest = known.remove(&one.name).unwrap_or_default();
                    one.metadata = newest.into_iter().next();
                }
            }
            Ok(found)
        })
        .await;
    let mut found = found.inspect_err(|error| query.fail(&error.message))?;
    let has_more = found.len() > limit;
    found.truncate(limit);
    let lines = Lines {
        found: found.into_iter().peekable(),
        batch,
        with_score,
        has_more,
        next: Line::First,
    };
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson; charset=utf-8")];
    Ok((headers, query.pieces(lines)).into_response())
}

/// The lines of an answer; each is made when the one before is on its way.
struct Lines {
    found: std::iter::Peekable<std::vec::IntoIter<Found>>,
    batch: usize,
    with_score: bool,
    has_more: bool,
    next: Line,
}

enum Line {
    /// There is one even when nothing was found.
    First,
    Others,
    Nothing,
}

impl Iterator for Lines {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let mut line = String::new();
        match self.next {
            Line::Nothing => return None,
            Line::Others if self.found.peek().is_none() => {
                self.next = Line::Nothing;
                line.push_str("{\"status\":\"success\",\"has_more\":");
                line.push_str(if self.has_more { "true}\n" } else { "false}\n" });
            }
            Line::First | Line::Others => {
                self.next = Line::Others;
                line.push_str("{\"results\":");
                let batch = self.found.by_ref().take(self.batch);
                let with_score = self.with_score;
                json::push_array(&mut line, batch, |out, found| {
                    push_result(out, &found, with_score);
                });
                line.push_str("}\n");
            }
        }
        Some(Bytes::from(line))
    }
}

fn push_result(out: &mut String, found: &Found, with_score: bool) {
    out.push_str("{\"name\":");
    json::push_string(out, &found.name);
    if with_score {
        out.push_str(",\"score\":");
        number::push_float(out, found.score);
    }
    if let Some(Metadata {
        metric_type,
        help,
        unit,
    }) = &found.metadata
    {
        let fields = [
            (",\"type\":", metric_type.as_str()),
            (",\"help\":", help),
            (",\"unit\":", unit),
        ];
        for (name, text) in fields.into_iter().filter(|(_, text)| !text.is_empty()) {
            out.push_str(name);
            json::push_string(out, text);
        }
    }
    out.push('}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(names: &[&str], batch: usize) -> Vec<String> {
        let found: Vec<Found> = names
            .iter()
            .map(|name| Found {
                name: (*name).to_owned(),
                score: 0.5,
                metadata: None,
            })
            .collect();
        let lines = Lines {
            found: found.into_iter().peekable(),
            batch,
            with_score: false,
            has_more: true,
            next: Line::First,
        };
        lines
            .map(|line| String::from_utf8(line.to_vec()).unwrap())
            .collect()
    }

    #[test]
    fn results_come_in_batches_and_then_the_end() {
        assert_eq!(
            lines(&["a", "b", "c"], 2),
            [
                "{\"results\":[{\"name\":\"a\"},{\"name\":\"b\"}]}\n",
                "{\"results\":[{\"name\":\"c\"}]}\n",
                "{\"status\":\"success\",\"has_more\":true}\n",
            ]
        );
        assert_eq!(lines(&["a", "b"], 2).len(), 2);
        assert_eq!(lines(&[], 2).len(), 2);
    }
}
