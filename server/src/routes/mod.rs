//! What the main port answers: tables of routes.
//!
//! The router is built from them and so is the OpenAPI document, so that neither can know a path,
//! a method or a parameter that the other does not. Adding an endpoint is adding an entry to
//! [`table::ROUTES`], or to the table of its protocol.

pub mod loki;
pub mod parameters;
pub mod table;
pub mod traces;

use axum::Router;
use axum::routing::{MethodFilter, MethodRouter};
use http::Method;

pub use parameters::{Kind, Parameter};

use crate::state::AppState;

/// A method that routes are registered for. `HEAD` comes with `GET`, `OPTIONS` with all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Reads with parameters in the body, or writes.
    Post,
    /// Writes.
    Put,
    /// Removes.
    Delete,
}

impl Verb {
    /// As HTTP has it.
    #[must_use]
    pub fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Delete => Method::DELETE,
        }
    }

    fn filter(self) -> MethodFilter {
        match self {
            Self::Get => MethodFilter::GET,
            Self::Post => MethodFilter::POST,
            Self::Put => MethodFilter::PUT,
            Self::Delete => MethodFilter::DELETE,
        }
    }
}

/// What a route is about; the groups of the OpenAPI document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// Queries.
    Query,
    /// Series, labels, metadata.
    Metadata,
    /// Traces.
    Traces,
    /// Search of names and values.
    Search,
    /// Targets and scrape pools.
    Targets,
    /// Rules and alerts.
    Rules,
    /// What runs here.
    Status,
    /// Notifications.
    Notifications,
    /// Administration.
    Admin,
    /// Writing.
    Ingest,
    /// Reading by other servers.
    Read,
    /// Health and the server itself.
    Server,
}

impl Tag {
    /// All of them, in the order of the document.
    pub const ALL: &[Self] = &[
        Self::Query,
        Self::Metadata,
        Self::Traces,
        Self::Search,
        Self::Targets,
        Self::Rules,
        Self::Status,
        Self::Notifications,
        Self::Admin,
        Self::Ingest,
        Self::Read,
        Self::Server,
    ];

    /// Its name and what it is about.
    #[must_use]
    pub fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::Query => ("query", "Evaluate PromQL and SQL."),
            Self::Metadata => ("metadata", "Series, label names, label values, metadata."),
            Self::Traces => ("traces", "Traces, as Jaeger, Tempo and Zipkin answer."),
            Self::Search => ("search", "Find metric names, label names and label values."),
            Self::Targets => ("targets", "Targets and scrape pools."),
            Self::Rules => ("rules", "Rules, alerts and where alerts go."),
            Self::Status => ("status", "What runs here and how it is doing."),
            Self::Notifications => ("notifications", "What the operator should know."),
            Self::Admin => ("admin", "Administration; off unless enabled."),
            Self::Ingest => ("ingest", "Write data."),
            Self::Read => ("read", "Raw data for other servers."),
            Self::Server => ("server", "Health, version, own metrics."),
        }
    }
}

/// What a success looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// `{"status":"success","data":…}`.
    Envelope,
    /// The envelope, or a table in a format that `Accept` names.
    EnvelopeOrTable,
    /// 204 without a body.
    Nothing,
    /// 204; or 200 with the envelope.
    NothingOrEnvelope,
    /// A body of one of these types, the first unless `Accept` names another.
    Body(&'static [&'static str]),
    /// Lines of JSON.
    JsonLines,
    /// Server-sent events; 204 when there is no room for another listener.
    Events,
    /// A websocket.
    WebSocket,
}

/// What a request's body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Nothing; for `POST` and `PUT` the parameters as a form.
    Form,
    /// A body of one of these types.
    Body(&'static [&'static str]),
}

/// A path of the main port, for one or several methods.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// As the router writes it: `/api/v1/label/{name}/values`.
    pub path: &'static str,
    /// The methods.
    pub verbs: &'static [Verb],
    /// What it is about.
    pub tag: Tag,
    /// One sentence.
    pub summary: &'static str,
    /// The parameters.
    pub parameters: &'static [Parameter],
    /// The body of a request.
    pub input: Input,
    /// A success.
    pub answer: Answer,
    /// What must be switched on, as a flag.
    pub needs: Option<&'static str>,
    serve: fn(MethodFilter) -> MethodRouter<AppState>,
}

impl Route {
    /// A route that takes no parameters and answers with the envelope.
    const fn new(
        path: &'static str,
        verbs: &'static [Verb],
        tag: Tag,
        summary: &'static str,
        serve: fn(MethodFilter) -> MethodRouter<AppState>,
    ) -> Self {
        Self {
            path,
            verbs,
            tag,
            summary,
            parameters: &[],
            input: Input::Form,
            answer: Answer::Envelope,
            needs: None,
            serve,
        }
    }

    const fn takes(mut self, parameters: &'static [Parameter]) -> Self {
        self.parameters = parameters;
        self
    }

    const fn reads(mut self, types: &'static [&'static str]) -> Self {
        self.input = Input::Body(types);
        self
    }

    const fn answers(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    const fn needs(mut self, flag: &'static str) -> Self {
        self.needs = Some(flag);
        self
    }

    /// Whether the answer is streamed for as long as the client stays.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.answer == Answer::Events
    }
}

/// The table, in parts.
pub static TABLES: &[&[Route]] = &[table::ROUTES, loki::ROUTES, traces::ROUTES];

/// Every route of the main port.
pub fn routes() -> impl Iterator<Item = &'static Route> {
    TABLES.iter().copied().flatten()
}

/// Registers the routes that are wanted.
pub fn register(router: Router<AppState>, wanted: impl Fn(&Route) -> bool) -> Router<AppState> {
    let routes = routes().filter(|route| wanted(route));
    routes.fold(router, |router, route| {
        let (first, others) = match route.verbs.split_first() {
            Some((first, others)) => (first.filter(), others),
            None => return router,
        };
        let methods = others.iter().fold(first, |all, verb| all.or(verb.filter()));
        router.route(route.path, (route.serve)(methods))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_path_and_method_stands_twice() {
        let mut seen = BTreeSet::new();
        for route in routes() {
            assert!(!route.verbs.is_empty(), "{}", route.path);
            for verb in route.verbs {
                let key = format!("{} {}", verb.method(), route.path);
                assert!(seen.insert(key), "{} {}", verb.method(), route.path);
            }
        }
    }

    #[test]
    fn parameters_in_a_path_are_described() {
        for route in routes() {
            let in_path: BTreeSet<&str> = route
                .path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .map(|name| name.trim_start_matches('*'))
                .collect();
            let described: BTreeSet<&str> = route
                .parameters
                .iter()
                .filter(|p| p.kind == Kind::Path)
                .map(|p| p.name)
                .collect();
            assert_eq!(in_path, described, "{}", route.path);
        }
    }
}
