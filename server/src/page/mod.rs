//! The query page at `/`: plain HTML, styles and modules of JavaScript, compiled into the binary.
//!
//! The page asks the same HTTP APIs as any client and holds no state but its address. Invariants: it
//! loads nothing from elsewhere (the content security policy says so to the browser), and what the
//! store holds reaches the document as text, never as HTML.

use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::api::health;

/// A file of the page.
struct File {
    name: &'static str,
    content_type: &'static str,
    text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const INDEX: File = File {
    name: "index.html",
    content_type: "text/html; charset=utf-8",
    text: include_str!("index.html"),
};

/// What `/ui/{file}` serves.
const FILES: &[File] = &[
    File {
        name: "style.css",
        content_type: "text/css; charset=utf-8",
        text: include_str!("style.css"),
    },
    File {
        name: "page.js",
        content_type: SCRIPT,
        text: include_str!("page.js"),
    },
    File {
        name: "api.js",
        content_type: SCRIPT,
        text: include_str!("api.js"),
    },
    File {
        name: "plot.js",
        content_type: SCRIPT,
        text: include_str!("plot.js"),
    },
    File {
        name: "table.js",
        content_type: SCRIPT,
        text: include_str!("table.js"),
    },
    File {
        name: "trace.js",
        content_type: SCRIPT,
        text: include_str!("trace.js"),
    },
    File {
        name: "values.js",
        content_type: SCRIPT,
        text: include_str!("values.js"),
    },
];

/// Styles set by scripts (`element.style`) are allowed by `style-src 'self'`; inline ones are not.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn serve(file: &File) -> Response {
    let headers = [
        (header::CONTENT_TYPE, file.content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A server of another version has other files under the same names.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, file.text).into_response()
}

/// `GET /`: the page for browsers, the version for everything else.
pub async fn index(headers: HeaderMap) -> Response {
    let accepts = headers.get_all(header::ACCEPT).iter();
    let browser = accepts
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.contains("text/html"));
    let mut response = match browser {
        true => serve(&INDEX),
        false => health::version().await,
    };
    let vary = HeaderValue::from_static("accept");
    response.headers_mut().append(header::VARY, vary);
    response
}

/// `GET /ui/{file}`: styles and scripts of the page.
pub async fn file(Path(name): Path<String>) -> Response {
    match FILES.iter().find(|file| file.name == name) {
        Some(file) => serve(file),
        None => (StatusCode::NOT_FOUND, "no such file of the query page\n").into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::routes;

    /// Texts between `open` and the next `close`.
    fn between<'a>(text: &'a str, open: &str, close: &[char]) -> Vec<&'a str> {
        text.split(open)
            .skip(1)
            .filter_map(|rest| rest.split(close).next())
            .collect()
    }

    #[test]
    fn files_that_the_page_names_are_served() {
        for file in FILES.iter().chain([&INDEX]) {
            for name in between(file.text, "\"/ui/", &['"']) {
                assert!(
                    FILES.iter().any(|file| file.name == name),
                    "{} names {name}",
                    file.name
                );
            }
        }
    }

    /// Whether a path that a script or a link has is that of a route.
    fn same_shape(route: &str, asked: &str) -> bool {
        let (mut route, mut asked) = (route.split('/'), asked.split('/'));
        loop {
            match (route.next(), asked.next()) {
                (None, None) => return true,
                (Some(part), Some(value)) if part == value => {}
                (Some(part), Some(_)) if part.starts_with('{') => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn paths_that_the_page_asks_are_routes() {
        let script = FILES.iter().find(|file| file.name == "api.js").unwrap();
        let mut asked = 0;
        for quote in ["\"/", "`/"] {
            for path in between(script.text, quote, &['"', '`', '?']) {
                let path = format!("/{path}");
                let known = routes().any(|route| same_shape(route.path, &path));
                assert!(known, "{path} is no route");
                asked += 1;
            }
        }
        assert!(asked >= 6, "{asked}");
        for link in between(INDEX.text, "href=\"/", &['"']) {
            let path = format!("/{link}");
            let known = routes().any(|route| same_shape(route.path, &path));
            assert!(known || path.starts_with("/ui/"), "{path} is no route");
        }
    }

    #[test]
    fn nothing_is_inline_and_nothing_comes_from_elsewhere() {
        for file in FILES.iter().chain([&INDEX]) {
            for forbidden in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "eval(",
                "style=",
                "onclick=",
            ] {
                assert!(!file.text.contains(forbidden), "{}: {forbidden}", file.name);
            }
            let foreign = between(file.text, "http", &['"', '\'', ' ']);
            let namespace = |url: &&str| *url != "://www.w3.org/2000/svg";
            let foreign: Vec<_> = foreign
                .into_iter()
                .filter(|url| url.starts_with(':') || url.starts_with("s:"))
                .filter(namespace)
                .collect();
            assert!(foreign.is_empty(), "{}: {foreign:?}", file.name);
        }
    }

    /// The logic of the scripts that needs no browser, under node where that is installed.
    #[test]
    fn scripts_pass_their_own_tests() {
        let dir = tempfile::tempdir().unwrap();
        // As modules by their names: nothing around them says so.
        let values = FILES.iter().find(|file| file.name == "values.js").unwrap();
        std::fs::write(dir.path().join("values.mjs"), values.text).unwrap();
        let tests = dir.path().join("values.test.mjs");
        std::fs::write(&tests, include_str!("values.test.mjs")).unwrap();
        let mut node = std::process::Command::new("node");
        match node.arg("--test").arg(&tests).output() {
            Ok(output) => assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stdout)
            ),
            Err(error) => println!("not run, no node here: {error}"),
        }
    }
}
