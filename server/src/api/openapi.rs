//! `GET /api/v1/openapi.yaml`: the API described in OpenAPI, made of the table of routes.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header;

use super::params::Params;
use crate::error::{ApiError, ErrorType};
use crate::request::TENANT_HEADER;
use crate::routes::{self, Answer, Input, Kind, Parameter, Route, Tag, Verb};
use crate::state::AppState;
use crate::wire::yaml::Yaml;

/// Versions of OpenAPI that the document is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    /// What most tools read; it cannot describe the elements of a stream.
    V31,
    /// Describes streams too.
    V32,
}

/// Answers with the document; 3.1 unless 3.2 is asked for.
pub async fn document(State(_): State<AppState>, params: Params) -> Result<Response, ApiError> {
    let version = match params.get_filled("openapi_version") {
        None | Some("3.1" | "3.1.0") => Version::V31,
        Some("3.2" | "3.2.0") => Version::V32,
        Some(other) => {
            let reason = format!("{other:?} is neither 3.1 nor 3.2");
            return Err(ApiError::parameter("openapi_version", reason));
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "application/yaml; charset=utf-8"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    Ok((headers, build(version).to_text()).into_response())
}

fn build(version: Version) -> Yaml {
    let info = Yaml::map([
        ("title", Yaml::from("Chronolith API")),
        (
            "description",
            Yaml::from(
                "Metrics, logs and traces in one store. What is under /api/v1 is the Prometheus \
                 HTTP API and more.",
            ),
        ),
        ("version", Yaml::from(crate::VERSION)),
        (
            "license",
            Yaml::map([
                ("name", Yaml::from("Apache-2.0")),
                ("identifier", Yaml::from("Apache-2.0")),
            ]),
        ),
    ]);
    let tags = Tag::ALL.iter().map(|tag| {
        let (name, about) = tag.describe();
        Yaml::map([
            ("name", Yaml::from(name)),
            ("description", Yaml::from(about)),
        ])
    });
    let anyone = ["basic", "bearer"].map(|name| Yaml::map([(name, Yaml::list([]))]));
    let security = std::iter::once(Yaml::Map(Vec::new())).chain(anyone);
    let number = match version {
        Version::V31 => "3.1.0",
        Version::V32 => "3.2.0",
    };
    Yaml::map([
        ("openapi", Yaml::from(number)),
        ("info", info),
        (
            "servers",
            Yaml::list([Yaml::map([("url", Yaml::from("/"))])]),
        ),
        ("security", Yaml::list(security)),
        ("tags", Yaml::list(tags)),
        ("paths", paths(version)),
        ("components", components()),
    ])
}

/// Routes of the same path come together; each path stands where its first route does.
fn paths(version: Version) -> Yaml {
    let mut paths: Vec<(String, Yaml)> = Vec::new();
    for route in routes::routes() {
        // Version 3.1 has no words for a stream that never ends.
        if version == Version::V31 && route.is_live() {
            continue;
        }
        let path = route.path.replace("{*", "{");
        let operations = match paths.iter_mut().find(|(known, _)| *known == path) {
            Some((_, operations)) => operations,
            None => {
                let tenant = Yaml::map([("$ref", Yaml::from("#/components/parameters/tenant"))]);
                let shared = Yaml::map([("parameters", Yaml::list([tenant]))]);
                paths.push((path, shared));
                match paths.last_mut() {
                    Some((_, operations)) => operations,
                    None => continue,
                }
            }
        };
        for verb in route.verbs {
            let method = verb.method().as_str().to_ascii_lowercase();
            operations.push(&method, operation(version, route, *verb));
        }
    }
    Yaml::Map(paths)
}

fn operation(version: Version, route: &Route, verb: Verb) -> Yaml {
    let mut id = verb.method().as_str().to_ascii_lowercase();
    for part in route.path.split(|c: char| !c.is_ascii_alphanumeric()) {
        if !part.is_empty() {
            id.push('_');
            id.push_str(part);
        }
    }
    // `/ready` and `/-/ready` are two paths.
    if route.path.starts_with("/-/") {
        id.push_str("_dash");
    }
    // `/elastic` and `/elastic/` are two paths.
    if route.path.len() > 1 && route.path.ends_with('/') {
        id.push_str("_root");
    }
    let mut operation = Yaml::map([
        ("operationId", Yaml::from(id)),
        ("tags", Yaml::list([Yaml::from(route.tag.describe().0)])),
        ("summary", Yaml::from(route.summary)),
    ]);
    if let Some(flag) = route.needs {
        let text = format!("Refused with 403 unless the server runs with `{flag}`.");
        operation.push("description", Yaml::from(text));
    }
    // In a form, parameters are properties; in the query string they may stand all the same.
    let in_form = route.input == Input::Form && matches!(verb, Verb::Post | Verb::Put);
    let (form, listed): (Vec<&Parameter>, Vec<&Parameter>) = route
        .parameters
        .iter()
        .partition(|p| in_form && p.kind != Kind::Path);
    if !listed.is_empty() {
        operation.push("parameters", Yaml::list(listed.into_iter().map(parameter)));
    }
    match route.input {
        Input::Form if !form.is_empty() => operation.push("requestBody", form_body(&form)),
        Input::Form => {}
        Input::Body(types) => {
            let content = types.iter().map(|t| (*t, Yaml::Map(Vec::new())));
            let body = Yaml::map([
                ("required", Yaml::from(true)),
                ("content", Yaml::map(content)),
            ]);
            operation.push("requestBody", body);
        }
    }
    operation.push("responses", responses(version, route));
    operation
}

fn parameter(parameter: &Parameter) -> Yaml {
    let place = match parameter.kind {
        Kind::Path => "path",
        _ => "query",
    };
    Yaml::map([
        ("name", Yaml::from(parameter.name)),
        ("in", Yaml::from(place)),
        ("required", Yaml::from(parameter.required)),
        ("description", Yaml::from(parameter.help)),
        ("schema", schema(parameter.kind)),
    ])
}

fn form_body(parameters: &[&Parameter]) -> Yaml {
    let properties = parameters.iter().map(|parameter| {
        let mut described = schema(parameter.kind);
        described.push("description", Yaml::from(parameter.help));
        (parameter.name, described)
    });
    let required: Vec<Yaml> = parameters
        .iter()
        .filter(|p| p.required)
        .map(|p| Yaml::from(p.name))
        .collect();
    let mut form = Yaml::map([
        ("type", Yaml::from("object")),
        ("properties", Yaml::map(properties)),
    ]);
    if !required.is_empty() {
        form.push("required", Yaml::List(required));
    }
    let content = [(
        "application/x-www-form-urlencoded",
        Yaml::map([("schema", form)]),
    )];
    Yaml::map([("content", Yaml::map(content))])
}

fn schema(kind: Kind) -> Yaml {
    let typed = |name: &str| ("type", Yaml::from(name));
    match kind {
        Kind::Text | Kind::Path => Yaml::map([typed("string")]),
        Kind::Count => Yaml::map([typed("integer"), ("minimum", Yaml::from(0))]),
        Kind::Flag => Yaml::map([typed("boolean")]),
        Kind::Choice(words) => Yaml::map([
            typed("string"),
            ("enum", Yaml::list(words.iter().map(|w| Yaml::from(*w)))),
        ]),
        Kind::Many => Yaml::map([typed("array"), ("items", Yaml::map([typed("string")]))]),
        Kind::Time => Yaml::map([("$ref", Yaml::from("#/components/schemas/Time"))]),
        Kind::Duration => Yaml::map([("$ref", Yaml::from("#/components/schemas/Duration"))]),
    }
}

fn reference(schema: &str) -> Yaml {
    let target = format!("#/components/schemas/{schema}");
    Yaml::map([("schema", Yaml::map([("$ref", Yaml::from(target))]))])
}

fn responses(version: Version, route: &Route) -> Yaml {
    let anything = || Yaml::Map(Vec::new());
    let ok = |content: Vec<(&str, Yaml)>| {
        let response = Yaml::map([
            ("description", Yaml::from("Success.")),
            ("content", Yaml::map(content)),
        ]);
        ("200", response)
    };
    let nothing = || ("204", Yaml::map([("description", Yaml::from("Done."))]));
    // Elements of a stream: 3.2 describes them one by one.
    let items = |schema: &str| match version {
        Version::V31 => anything(),
        Version::V32 => {
            let target = format!("#/components/schemas/{schema}");
            Yaml::map([("itemSchema", Yaml::map([("$ref", Yaml::from(target))]))])
        }
    };
    let envelope = || ("application/json", reference("Success"));
    let mut all = match route.answer {
        Answer::Envelope => vec![ok(vec![envelope()])],
        Answer::EnvelopeOrTable => vec![ok(vec![
            envelope(),
            ("text/csv", anything()),
            ("application/x-ndjson", anything()),
            ("application/vnd.apache.arrow.stream", anything()),
            ("application/vnd.apache.parquet", anything()),
        ])],
        Answer::Nothing => vec![nothing()],
        Answer::NothingOrEnvelope => vec![ok(vec![envelope()]), nothing()],
        Answer::Body(types) => vec![ok(types.iter().map(|t| (*t, anything())).collect())],
        Answer::JsonLines => vec![ok(vec![("application/x-ndjson", items("SearchLine"))])],
        Answer::WebSocket => vec![(
            "101",
            Yaml::map([("description", Yaml::from("A websocket begins."))]),
        )],
        Answer::Events => vec![
            ok(vec![("text/event-stream", items("Notification"))]),
            (
                "204",
                Yaml::map([("description", Yaml::from("There are too many listeners."))]),
            ),
        ],
    };
    let failure = Yaml::map([
        ("description", Yaml::from("A refusal or a failure.")),
        (
            "content",
            Yaml::map([("application/json", reference("Failure"))]),
        ),
    ]);
    all.push(("default", failure));
    Yaml::map(all)
}

fn components() -> Yaml {
    let text = || Yaml::map([("type", Yaml::from("string"))]);
    let texts = || Yaml::map([("type", Yaml::from("array")), ("items", text())]);
    let constant = |word: &str| Yaml::map([("const", Yaml::from(word))]);
    let object = |properties: Vec<(&str, Yaml)>, required: &[&str]| {
        Yaml::map([
            ("type", Yaml::from("object")),
            ("properties", Yaml::map(properties)),
            (
                "required",
                Yaml::list(required.iter().map(|name| Yaml::from(*name))),
            ),
        ])
    };
    let number_or_text = |about: &str| {
        Yaml::map([
            (
                "type",
                Yaml::list([Yaml::from("number"), Yaml::from("string")]),
            ),
            ("description", Yaml::from(about)),
        ])
    };
    let error_types = ErrorType::ALL.iter().map(|kind| kind.as_str());
    let mut words: Vec<&str> = error_types.collect();
    words.sort_unstable();
    words.dedup();
    let error_type = Yaml::map([("enum", Yaml::list(words.into_iter().map(Yaml::from)))]);
    let schemas = Yaml::map([
        (
            "Time",
            number_or_text("Unix seconds with a fraction, or RFC 3339."),
        ),
        (
            "Duration",
            number_or_text("Seconds with a fraction, or a duration like 1h30m."),
        ),
        (
            "Success",
            object(
                vec![
                    ("status", constant("success")),
                    ("data", Yaml::Map(Vec::new())),
                    ("warnings", texts()),
                    ("infos", texts()),
                ],
                &["status"],
            ),
        ),
        (
            "Failure",
            object(
                vec![
                    ("status", constant("error")),
                    ("errorType", error_type),
                    ("error", text()),
                ],
                &["status", "errorType", "error"],
            ),
        ),
        (
            "Notification",
            object(
                vec![
                    ("text", text()),
                    ("date", text()),
                    ("active", Yaml::map([("type", Yaml::from("boolean"))])),
                ],
                &["text", "date", "active"],
            ),
        ),
        (
            "SearchLine",
            object(
                vec![
                    ("results", Yaml::map([("type", Yaml::from("array"))])),
                    ("status", text()),
                    ("has_more", Yaml::map([("type", Yaml::from("boolean"))])),
                    ("warnings", texts()),
                ],
                &[],
            ),
        ),
    ]);
    let tenant = Yaml::map([
        ("name", Yaml::from(TENANT_HEADER)),
        ("in", Yaml::from("header")),
        ("required", Yaml::from(false)),
        (
            "description",
            Yaml::from("The tenant; `default` without it."),
        ),
        ("schema", text()),
    ]);
    let scheme =
        |name: &str| Yaml::map([("type", Yaml::from("http")), ("scheme", Yaml::from(name))]);
    Yaml::map([
        ("schemas", schemas),
        ("parameters", Yaml::map([("tenant", tenant)])),
        (
            "securitySchemes",
            Yaml::map([("basic", scheme("basic")), ("bearer", scheme("bearer"))]),
        ),
    ])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn read(version: Version) -> Value {
        serde_saphyr::from_str(&build(version).to_text()).unwrap()
    }

    /// Every `$ref` of the document.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(pairs) => {
                for (key, value) in pairs {
                    match value {
                        Value::String(target) if key == "$ref" => {
                            found.insert(target.clone());
                        }
                        value => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|i| references(i, found)),
            _ => {}
        }
    }

    #[test]
    fn every_route_and_nothing_else_is_described() {
        for version in [Version::V31, Version::V32] {
            let document = read(version);
            let mut described = BTreeSet::new();
            for (path, item) in document["paths"].as_object().unwrap() {
                for method in item
                    .as_object()
                    .unwrap()
                    .keys()
                    .filter(|k| *k != "parameters")
                {
                    described.insert(format!("{method} {path}"));
                }
            }
            let routes: BTreeSet<String> = routes::routes()
                .filter(|route| version == Version::V32 || !route.is_live())
                .flat_map(|route| route.verbs.iter().map(move |verb| (route, verb)))
                .map(|(route, verb)| {
                    let method = verb.method().as_str().to_ascii_lowercase();
                    format!("{method} {}", route.path.replace("{*", "{"))
                })
                .collect();
            assert_eq!(described, routes);
        }
    }

    #[test]
    fn references_lead_somewhere_and_operations_have_names_of_their_own() {
        let document = read(Version::V32);
        assert_eq!(document["openapi"], "3.2.0");
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        for target in &found {
            let pointer = target.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{target}");
        }
        let mut names = BTreeSet::new();
        for item in document["paths"].as_object().unwrap().values() {
            for operation in item.as_object().unwrap().values() {
                if let Some(name) = operation["operationId"].as_str() {
                    assert!(names.insert(name.to_owned()), "{name}");
                }
            }
        }
        assert!(names.contains("post_api_v1_query_range"));
    }

    #[test]
    fn parameters_of_a_post_are_a_form() {
        let document = read(Version::V31);
        let post = &document["paths"]["/api/v1/query_range"]["post"];
        let form = &post["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
        assert_eq!(form["properties"]["query"]["type"], "string");
        assert_eq!(form["required"][0], "query");
        assert!(post["parameters"].is_null());
    }
}
