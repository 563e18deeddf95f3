//! How a store is opened: every setting with its unit, its default and what it trades.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::context::TenantId;
use crate::limits;
use crate::model::TimestampNs;
use crate::observer::RowObservers;

/// Where the store takes the time from: arrival times, ages of the head, retention.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> TimestampNs + Send + Sync>);

impl Clock {
    /// The system's clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            TimestampNs(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
        })
    }

    /// Any clock: tests turn it by hand.
    pub fn new(now: impl Fn() -> TimestampNs + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    /// The time now.
    #[must_use]
    pub fn now(&self) -> TimestampNs {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.now().0)
    }
}

/// When a commit counts as durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// Acknowledge only after `fdatasync`; concurrent commits share one. Nothing acknowledged is lost.
    #[default]
    Always,
    /// Acknowledge after the write, sync at this interval: a power cut may lose that much.
    Interval(Duration),
    /// Acknowledge after the write and leave syncing to the kernel: a killed process loses nothing,
    /// a power cut may lose what the kernel had not written.
    Off,
}

/// What one tenant may have. What exceeds a limit of series or labels is refused when a *new* series
/// is defined; samples of series that are known are taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantLimits {
    /// Rows older than this are dropped; `None` keeps all.
    pub retention: Option<Duration>,
    /// Bytes of the tenant's segments above which its oldest days are dropped; 0 for no limit.
    pub retention_bytes: u64,
    /// Active series; 0 for no limit.
    pub series_max: u64,
    /// Labels of a series, the metric name among them.
    pub labels_per_series_max: usize,
    /// Bytes of a label's name.
    pub label_name_bytes_max: usize,
    /// Bytes of a label's value.
    pub label_value_bytes_max: usize,
}

impl Default for TenantLimits {
    /// Everything that the engine can hold (see [`crate::limits`]), for ever.
    fn default() -> Self {
        Self {
            retention: None,
            retention_bytes: 0,
            series_max: 0,
            labels_per_series_max: limits::LABELS_PER_SERIES_MAX,
            label_name_bytes_max: limits::LABEL_NAME_BYTES_MAX,
            label_value_bytes_max: limits::LABEL_VALUE_BYTES_MAX,
        }
    }
}

/// Settings of a store.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// When a commit is acknowledged. Default: [`SyncMode::Always`].
    pub sync: SyncMode,
    /// Bytes that head, indexes and buffers may take together. Sealing starts at half of it, writes
    /// are refused with `Unavailable` at all of it. Default: 1 GiB.
    pub memory_bytes_max: u64,
    /// Active series a tenant may have; 0 for no limit. Default: 2,000,000.
    pub series_per_tenant_max: u64,
    /// The head is sealed when its oldest row has been there this long. Default: 2 h.
    pub seal_after: Duration,
    /// The head is sealed early once it holds this many samples and the log behind it is
    /// [`StoreOptions::seal_log_bytes`] long: bounds the time a restart takes. Default: 4,000,000.
    pub seal_samples: u64,
    /// The head is never sealed early (but for memory) below this many samples per active series:
    /// shorter chunks would cost more to merge than they save. Default: 120.
    pub seal_samples_per_series_min: u64,
    /// The head is sealed at this many samples even if that makes chunks short: with very many series,
    /// memory and the time of a restart count for more. Default: 64,000,000, which is 64 samples of
    /// each of a million series.
    pub seal_samples_max: u64,
    /// Bytes of write-ahead log behind the head at which it is sealed in any case. Default: 512 MiB.
    pub seal_log_bytes: u64,
    /// Rows older than this are dropped; `None` keeps all. Default: `None`.
    pub retention: Option<Duration>,
    /// Bytes of all tenants' segments above which the oldest days are dropped; 0 for no limit.
    /// Default: 0.
    pub retention_bytes: u64,
    /// Limits of single tenants. Those that are not named have `series_per_tenant_max`, `retention`
    /// and otherwise the defaults of [`TenantLimits`]; see also [`crate::Store::set_tenant_limits`].
    pub tenant_limits: BTreeMap<TenantId, TenantLimits>,
    /// How far back reads as of an earlier moment go ([`crate::Store::pin_as_of`]): rows that
    /// were overwritten or replaced are kept so long. Zero keeps none. Default: zero.
    pub as_of_retention: Duration,
    /// Exemplars held between two seals, of all tenants; more are dropped. Default: 100,000.
    pub exemplars_max: usize,
    /// Whether threads seal and compact in the background. Off, only `flush` and `compact` do.
    /// Default: on.
    pub background: bool,
    /// Who is told of log records and spans as they are stored. Default: nobody.
    pub observers: RowObservers,
    /// The clock. Default: the system's.
    pub clock: Clock,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            sync: SyncMode::Always,
            memory_bytes_max: 1 << 30,
            series_per_tenant_max: 2_000_000,
            seal_after: Duration::from_secs(2 * 3600),
            seal_samples: 4_000_000,
            seal_samples_per_series_min: 120,
            seal_samples_max: 64_000_000,
            seal_log_bytes: 512 << 20,
            retention: None,
            retention_bytes: 0,
            tenant_limits: BTreeMap::new(),
            as_of_retention: Duration::ZERO,
            exemplars_max: 100_000,
            background: true,
            observers: RowObservers::default(),
            clock: Clock::system(),
        }
    }
}

impl StoreOptions {
    /// What a tenant may have.
    #[must_use]
    pub fn limits_of(&self, tenant: &TenantId) -> TenantLimits {
        let shared = || TenantLimits {
            retention: self.retention,
            series_max: self.series_per_tenant_max,
            ..TenantLimits::default()
        };
        self.tenant_limits
            .get(tenant)
            .cloned()
            .unwrap_or_else(shared)
    }
}
