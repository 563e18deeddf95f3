//! Reads one target again and again.
//!
//! A loop sleeps to its slot (targets are spread over the interval by a hash of their labels, so
//! that they do not all come at once), fetches with a time and a size limit, and hands the body to
//! [`writer`](super::writer) on a blocking thread. Whatever goes wrong ends in `up 0`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chronolith_engine::{RequestContext, Store};
use parking_lot::Mutex;
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use tokio_util::sync::CancellationToken;

use super::config::{ScrapeConfig, TargetTls};
use super::discovery::Target;
use super::exposition::Dialect;
use super::writer::{self, FamilyMetadata, SeriesCache, WriteRules, Written};
use crate::telemetry::now_ms;

const ACCEPTED: &str = "application/openmetrics-text;version=1.0.0;q=0.8,\
     application/openmetrics-text;version=0.0.1;q=0.7,text/plain;version=1.0.0;q=0.5,\
     text/plain;version=0.0.4;q=0.4,*/*;q=0.2";

/// How the last scrape of a target went.
#[derive(Clone, Debug, Default)]
pub struct TargetHealth {
    /// `None` until the first scrape.
    pub up: Option<bool>,
    /// The last error; empty when there was none.
    pub last_error: String,
    /// When the last scrape began, milliseconds since the epoch; 0 for never.
    pub last_scrape_ms: i64,
    /// How long it took.
    pub last_duration: Duration,
}

/// A target being scraped.
#[derive(Debug)]
pub struct ActiveTarget {
    /// What.
    pub target: Target,
    /// By which job.
    pub job: Arc<ScrapeConfig>,
    /// With what success.
    pub health: Mutex<TargetHealth>,
    /// What it says about its metrics.
    pub metadata: Mutex<Arc<FamilyMetadata>>,
}

/// Makes the HTTP client of a job.
///
/// # Errors
/// When certificates cannot be read or used.
pub fn client(job: &ScrapeConfig, base: &Path) -> Result<reqwest::Client, String> {
    let redirects = if job.follow_redirects {
        reqwest::redirect::Policy::limited(10)
    } else {
        reqwest::redirect::Policy::none()
    };
    let mut builder = reqwest::Client::builder()
        .redirect(redirects)
        .pool_max_idle_per_host(1)
        .user_agent(concat!("Chronolith/", env!("CARGO_PKG_VERSION")));
    let TargetTls {
        ca_file,
        cert_file,
        key_file,
        insecure_skip_verify,
    } = &job.tls;
    let read = |path: &Path| {
        let path = base.join(path);
        std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    if let Some(path) = ca_file {
        let bundle = reqwest::Certificate::from_pem_bundle(&read(path)?)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        builder = builder.tls_built_in_root_certs(false);
        builder = bundle
            .into_iter()
            .fold(builder, reqwest::ClientBuilder::add_root_certificate);
    }
    match (cert_file, key_file) {
        (Some(cert), Some(key)) => {
            let mut pem = read(cert)?;
            pem.push(b'\n');
            pem.extend(read(key)?);
            let identity = reqwest::Identity::from_pem(&pem)
                .map_err(|e| format!("{}: {e}", cert.display()))?;
            builder = builder.identity(identity);
        }
        (None, None) => {}
        _ => return Err("tls_config needs both cert_file and key_file".into()),
    }
    if *insecure_skip_verify {
        builder = builder.danger_accept_invalid_certs(true);
    }
    builder.build().map_err(|e| e.to_string())
}

/// What a target answered.
struct Fetched {
    body: Vec<u8>,
    dialect: Dialect,
}

async fn fetch(
    client: &reqwest::Client,
    job: &ScrapeConfig,
    url: &str,
    base: &Path,
) -> Result<Fetched, String> {
    let mut request = client.get(url).header(ACCEPT, ACCEPTED).header(
        "X-Prometheus-Scrape-Timeout-Seconds",
        job.scrape_timeout.as_secs_f64().to_string(),
    );
    if job.enable_compression {
        request = request.header(ACCEPT_ENCODING, "gzip");
    }
    let secret = |inline: &Option<crate::config::Secret>, file: &Option<std::path::PathBuf>| {
        Ok::<_, String>(match (inline, file) {
            (Some(secret), _) => secret.expose().to_owned(),
            (None, Some(path)) => {
                let path = base.join(path);
                let text = std::fs::read_to_string(&path)
                    .map_err(|e| format!("{}: {e}", path.display()))?;
                text.trim().to_owned()
            }
            (None, None) => String::new(),
        })
    };
    if let Some(auth) = &job.basic_auth {
        request = request.basic_auth(
            &auth.username,
            Some(secret(&auth.password, &auth.password_file)?),
        );
    }
    if let Some(auth) = &job.authorization {
        let credentials = secret(&auth.credentials, &auth.credentials_file)?;
        let mut value = HeaderValue::try_from(format!("{} {credentials}", auth.scheme))
            .map_err(|_| "the credentials cannot stand in a header".to_owned())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    let mut response = request.send().await.map_err(|e| reasons(&e))?;
    if !response.status().is_success() {
        return Err(format!("server returned HTTP status {}", response.status()));
    }
    let content_type = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok());
    let dialect = Dialect::from_content_type(content_type.unwrap_or("")).ok_or_else(|| {
        format!(
            "content type {:?} is not supported",
            content_type.unwrap_or("")
        )
    })?;
    let gzip = response
        .headers()
        .get(reqwest::header::CONTENT_ENCODING)
        .is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|e| reasons(&e))? {
        if body.len() as u64 + chunk.len() as u64 > job.body_size_limit {
            return Err(format!(
                "body size limit of {} bytes exceeded",
                job.body_size_limit
            ));
        }
        body.extend_from_slice(&chunk);
    }
    if gzip {
        body = gunzip(&body, job.body_size_limit)?;
    }
    Ok(Fetched { body, dialect })
}

fn gunzip(body: &[u8], limit: u64) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut out = Vec::new();
    let mut reader = flate2::read::MultiGzDecoder::new(body).take(limit + 1);
    reader
        .read_to_end(&mut out)
        .map_err(|e| format!("gzip: {e}"))?;
    if out.len() as u64 > limit {
        return Err(format!("body size limit of {limit} bytes exceeded"));
    }
    Ok(out)
}

/// An error with its causes, in one line and without the URL (which may hold secrets).
fn reasons(error: &reqwest::Error) -> String {
    let mut text = String::from(if error.is_timeout() {
        "timed out"
    } else {
        "request failed"
    });
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// How long until the next slot of a target.
fn until_slot(labels_hash: u64, interval: Duration, now_ms: i64) -> Duration {
    let interval_ms = i64::try_from(interval.as_millis())
        .unwrap_or(i64::MAX)
        .max(1);
    let offset = i64::try_from(labels_hash % interval_ms.unsigned_abs()).unwrap_or(0);
    let wait = (offset - now_ms).rem_euclid(interval_ms);
    Duration::from_millis(wait.unsigned_abs())
}

/// Scrapes until cancelled; then ends the target's series.
pub(crate) async fn run(
    active: Arc<ActiveTarget>,
    client: reqwest::Client,
    store: Store,
    base: Arc<Path>,
    rules: Arc<WriteRules>,
    stop: CancellationToken,
    mark_stale_at_end: Arc<std::sync::atomic::AtomicBool>,
) {
    let job = Arc::clone(&active.job);
    let mut cache = SeriesCache::default();
    let hash = active.target.labels.stable_hash();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(until_slot(hash, job.scrape_interval, now_ms())) => {}
        }
        let (started, started_ms) = (Instant::now(), now_ms());
        let fetching = fetch(&client, &job, &active.target.url, &base);
        let fetched = tokio::select! {
            () = stop.cancelled() => break,
            fetched = tokio::time::timeout(job.scrape_timeout, fetching) => {
                fetched.unwrap_or_else(|_| Err(format!("timed out after {:?}", job.scrape_timeout)))
            }
        };
        let took = started.elapsed();
        let (store, rules) = (store.clone(), Arc::clone(&rules));
        let written = tokio::task::spawn_blocking(move || {
            let result = write(&store, &rules, &mut cache, fetched, started_ms, took);
            (result, cache)
        });
        let result = match written.await {
            Ok((result, returned)) => {
                cache = returned;
                result
            }
            Err(error) => {
                cache = SeriesCache::default();
                Err(format!("writing failed: {error}"))
            }
        };
        if let Err(error) = &result {
            tracing::debug!(
                job = job.job_name,
                url = active.target.url,
                error,
                "scrape failed"
            );
        }
        *active.metadata.lock() = cache.metadata();
        *active.health.lock() = TargetHealth {
            up: Some(result.is_ok()),
            last_error: result.err().unwrap_or_default(),
            last_scrape_ms: started_ms,
            last_duration: took,
        };
        // Past this slot, so that the next sleep is a whole interval less what was spent.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    if mark_stale_at_end.load(std::sync::atomic::Ordering::Relaxed) {
        let ended = tokio::task::spawn_blocking(move || {
            let stale = f64::from_bits(chronolith_engine::model::STALE_NAN_BITS);
            let reports = REPORTS.iter().map(|name| (*name, stale)).collect();
            let context = RequestContext::new();
            writer::write_absence(&store, &context, &rules, &mut cache, now_ms(), reports)
        });
        if let Ok(Err(error)) = ended.await {
            tracing::warn!(%error, "cannot end the series of a removed target");
        }
    }
}

/// Series that each scrape writes about itself.
const REPORTS: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

pub(crate) fn reports(up: bool, took: Duration, written: Written) -> Vec<(&'static str, f64)> {
    let values = [
        f64::from(u8::from(up)),
        took.as_secs_f64(),
        written.scraped as f64,
        written.kept as f64,
        written.added as f64,
    ];
    REPORTS.into_iter().zip(values).collect()
}

fn write(
    store: &Store,
    rules: &WriteRules,
    cache: &mut SeriesCache,
    fetched: Result<Fetched, String>,
    at_ms: i64,
    took: Duration,
) -> Result<(), String> {
    let context = RequestContext::new();
    let failed = match fetched {
        Ok(Fetched { body, dialect }) => {
            let report = |written| reports(true, took, written);
            let body = (body.as_slice(), dialect);
            match writer::write_exposition(store, &context, rules, cache, body, at_ms, report) {
                Ok(written) => {
                    if written.inconsistent_histograms > 0 {
                        tracing::debug!(
                            count = written.inconsistent_histograms,
                            "histograms with contradicting buckets were not converted"
                        );
                    }
                    return Ok(());
                }
                Err(error) => error.to_string(),
            }
        }
        Err(error) => error,
    };
    let report = reports(false, took, Written::default());
    match writer::write_absence(store, &context, rules, cache, at_ms, report) {
        Ok(()) => Err(failed),
        Err(error) => Err(format!("{failed}; {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_repeat_every_interval() {
        let interval = Duration::from_secs(15);
        let wait = until_slot(12_345_678, interval, 1_700_000_000_123);
        let at = 1_700_000_000_123 + wait.as_millis() as i64;
        assert_eq!(at % 15_000, 12_345_678 % 15_000);
        assert_eq!(until_slot(12_345_678, interval, at), Duration::ZERO);
        let next = until_slot(12_345_678, interval, at + 1);
        assert_eq!(next, interval - Duration::from_millis(1));
    }

    #[test]
    fn gzip_bombs_stop_at_the_limit() {
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(&vec![b'a'; 1 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        assert!(gunzip(&bomb, 1 << 10).unwrap_err().contains("limit"));
        assert_eq!(gunzip(&bomb, 1 << 20).unwrap().len(), 1 << 20);
    }
}
