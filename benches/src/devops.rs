//! Host metrics as a fleet of machines sends them: for every host the same 142 series in the shapes that
//! node exporters produce (two-decimal CPU counters, integer disk and network counters, page-multiple
//! memory gauges, constants, rarely changing small integers, rounded and full-precision gauges,
//! histogram buckets), on an exact 10 s grid with one offset per host and 0.1 % of the scrapes missing.
//!
//! Deterministic, and each series by itself, so that a bench can make them in any order.

use chronolith_engine::model::{Labels, SampleColumns};

/// Milliseconds between scrapes.
const STEP_MS: i64 = 10_000;
/// First scrape: 2024-07-03T00:00:00Z.
const START_MS: i64 = 1_719_964_800_000;

/// Upper bounds of histogram buckets.
const BOUNDS: [&str; 12] = [
    "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "+Inf",
];

/// A small deterministic generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts from a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Roughly normal with deviation 1.
    pub fn normal(&mut self) -> f64 {
        ((0..6).map(|_| self.unit()).sum::<f64>() - 3.0) * std::f64::consts::SQRT_2
    }
}

/// How a series' values move.
#[derive(Clone, Copy, Debug)]
enum Shape {
    /// Counter in hundredths, so many of them a step.
    Cents(f64),
    /// Counter of whole numbers, so many a step.
    Count(f64),
    /// Random walk between bounds with a deviation, rounded to multiples of a unit.
    Walk(f64, f64, f64, f64),
    /// Random walk rounded to fractions: so many per one.
    Fraction(f64, f64, f64, f64),
    /// Random walk in full precision.
    Full(f64, f64, f64),
    Constant,
    /// Jumps to another small integer with a probability.
    Rare(f64, u64),
    /// Counter that grows by a full-precision amount.
    Sum(f64),
}

/// One series of the fleet.
#[derive(Clone, Debug)]
pub struct DevopsSeries {
    /// Its labels.
    pub labels: Labels,
    host: u64,
    seed: u64,
    shape: Shape,
    /// Scrapes on the grid before its first.
    start: i64,
}

/// The series of `hosts` machines in ascending order of their labels: 142 a machine.
#[must_use]
pub fn devops(hosts: usize) -> Vec<DevopsSeries> {
    let mut all = Vec::new();
    for host in 0..hosts {
        host_series(host, &mut all);
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

/// Series of one machine.
pub const SERIES_PER_HOST: usize = 142;

/// The series of one machine, in the order in which its exporter lists them.
#[must_use]
pub fn host(number: usize) -> Vec<DevopsSeries> {
    let mut all = Vec::with_capacity(SERIES_PER_HOST);
    host_series(number, &mut all);
    for series in &mut all {
        series.seed += (number * SERIES_PER_HOST) as u64;
    }
    all
}

fn host_series(host: usize, all: &mut Vec<DevopsSeries>) {
    let regions = [
        "eu-west-1",
        "eu-central-1",
        "us-east-1",
        "us-west-2",
        "ap-south-1",
    ];
    let region = regions[host % regions.len()];
    let common = [
        ("instance", format!("host-{host:05}:9100")),
        ("job", "node".to_owned()),
        ("region", region.to_owned()),
        (
            "datacenter",
            format!("{region}{}", ["a", "b", "c"][host / 5 % 3]),
        ),
        (
            "env",
            ["prod", "prod", "staging", "test"][host % 4].to_owned(),
        ),
    ];
    let mut add = |name: &str, extra: &[(&str, &str)], shape: Shape| {
        let pairs = [("__name__", name)]
            .into_iter()
            .chain(common.iter().map(|(n, v)| (*n, v.as_str())))
            .chain(extra.iter().copied());
        all.push(DevopsSeries {
            labels: Labels::from_pairs(pairs).expect("bug: labels of the generator"),
            host: host as u64,
            seed: all.len() as u64,
            shape,
            start: 0,
        });
    };
    let modes = [
        ("idle", 800.0),
        ("user", 120.0),
        ("system", 50.0),
        ("iowait", 10.0),
        ("nice", 2.0),
        ("irq", 0.0),
        ("softirq", 10.0),
        ("steal", 1.0),
    ];
    for cpu in ["0", "1", "2", "3"] {
        for (mode, cents) in modes {
            let labels = [("cpu", cpu), ("mode", mode)];
            add("node_cpu_seconds_total", &labels, Shape::Cents(cents));
        }
    }
    for (name, deviation) in [
        ("node_load1", 0.2),
        ("node_load5", 0.05),
        ("node_load15", 0.02),
    ] {
        add(name, &[], Shape::Fraction(0.0, 16.0, deviation, 100.0));
    }
    for name in ["MemTotal", "SwapTotal"] {
        add(&format!("node_memory_{name}_bytes"), &[], Shape::Constant);
    }
    for name in [
        "MemFree",
        "MemAvailable",
        "Cached",
        "Buffers",
        "Dirty",
        "Slab",
    ] {
        let shape = Shape::Walk(1e8, 6e10, 2e7, 4096.0);
        add(&format!("node_memory_{name}_bytes"), &[], shape);
    }
    for device in ["sda", "nvme0n1", "nvme1n1"] {
        let device = [("device", device)];
        for (name, rate) in [
            ("reads_completed", 400.0),
            ("writes_completed", 900.0),
            ("read_bytes", 3e7),
            ("written_bytes", 9e7),
        ] {
            add(
                &format!("node_disk_{name}_total"),
                &device,
                Shape::Count(rate),
            );
        }
        for name in ["io_time", "io_time_weighted"] {
            add(
                &format!("node_disk_{name}_seconds_total"),
                &device,
                Shape::Cents(50.0),
            );
        }
    }
    for mount in ["/", "/var", "/data"] {
        let mount = [("mountpoint", mount)];
        add(
            "node_filesystem_avail_bytes",
            &mount,
            Shape::Walk(1e9, 2e12, 3e6, 4096.0),
        );
        add(
            "node_filesystem_files_free",
            &mount,
            Shape::Walk(1e6, 1e8, 3.0, 1.0),
        );
        add("node_filesystem_size_bytes", &mount, Shape::Constant);
    }
    for device in ["eth0", "eth1"] {
        for (name, rate) in [
            ("receive_bytes", 2e7),
            ("transmit_bytes", 1.5e7),
            ("receive_packets", 18_000.0),
            ("transmit_packets", 15_000.0),
            ("receive_errs", 0.01),
            ("transmit_drop", 0.02),
        ] {
            let name = format!("node_network_{name}_total");
            add(&name, &[("device", device)], Shape::Count(rate));
        }
    }
    add("up", &[], Shape::Rare(0.0, 1));
    add("node_boot_time_seconds", &[], Shape::Constant);
    add("node_procs_running", &[], Shape::Rare(0.4, 9));
    add("process_open_fds", &[], Shape::Rare(0.05, 64));
    for sensor in ["temp1", "temp2", "temp3", "temp4"] {
        let shape = Shape::Fraction(25.0, 95.0, 0.4, 8.0);
        add("node_hwmon_temp_celsius", &[("sensor", sensor)], shape);
    }
    for name in ["user", "system", "idle", "nice", "iowait"] {
        add(
            &format!("cpu_usage_{name}"),
            &[],
            Shape::Walk(0.0, 100.0, 1.0, 1.0),
        );
    }
    for name in ["irq", "softirq", "steal", "guest", "guest_nice"] {
        add(
            &format!("cpu_usage_{name}"),
            &[],
            Shape::Full(0.0, 100.0, 1.0),
        );
    }
    for (handler, rate) in [("/api/query", 20.0), ("/api/write", 10.0), ("/login", 0.5)] {
        for (place, bound) in BOUNDS.iter().enumerate() {
            let labels = [("handler", handler), ("le", bound)];
            let rate = rate * (place + 1) as f64 / BOUNDS.len() as f64;
            add(
                "http_request_duration_seconds_bucket",
                &labels,
                Shape::Count(rate),
            );
        }
        let handler = [("handler", handler)];
        add(
            "http_request_duration_seconds_sum",
            &handler,
            Shape::Sum(rate * 0.06),
        );
        add(
            "http_request_duration_seconds_count",
            &handler,
            Shape::Count(rate),
        );
    }
}

/// The series of `pods` short-lived pods, 24 each, in ascending order of their labels. Pods begin at
/// scattered scrapes of the first 2,048 and bear a name that never comes back.
#[must_use]
pub fn churn(pods: usize) -> Vec<DevopsSeries> {
    let mut all = Vec::new();
    for pod in 0..pods {
        pod_series(pod, &mut all);
    }
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    all
}

/// Series of one pod.
pub const SERIES_PER_POD: usize = 24;

/// The series of one pod of [`churn`].
#[must_use]
pub fn pod(number: usize) -> Vec<DevopsSeries> {
    let mut all = Vec::with_capacity(SERIES_PER_POD);
    pod_series(number, &mut all);
    for series in &mut all {
        series.seed += (number * SERIES_PER_POD) as u64;
    }
    all
}

fn pod_series(pod: usize, all: &mut Vec<DevopsSeries>) {
    let mut random = Random::new(pod as u64 ^ 0x5851_f42d_4c95_7f2d);
    let (hash, slot) = (random.bits(), pod % 417);
    let deployment = slot / 8;
    let common = [
        ("namespace", format!("ns-{:02}", deployment % 17)),
        ("deployment", format!("svc-{deployment:03}")),
        (
            "pod",
            format!(
                "svc-{deployment:03}-{:09x}-{:05x}",
                hash >> 28,
                hash & 0xf_ffff
            ),
        ),
        ("node", format!("node-{:03}", hash % 97)),
        ("job", "kubelet".to_owned()),
    ];
    let start = (random.bits() % 2048) as i64;
    let mut add = |name: &str, extra: (&str, &str), shape: Shape| {
        let pairs = [("__name__", name), extra]
            .into_iter()
            .chain(common.iter().map(|(n, v)| (*n, v.as_str())));
        all.push(DevopsSeries {
            labels: Labels::from_pairs(pairs).expect("bug: labels of the generator"),
            host: slot as u64,
            seed: all.len() as u64,
            shape,
            start,
        });
    };
    for container in ["app", "sidecar"] {
        let container = ("container", container);
        add(
            "container_cpu_usage_seconds_total",
            container,
            Shape::Cents(250.0),
        );
        for name in ["working_set", "rss", "cache"] {
            let shape = Shape::Walk(1e7, 2e9, 4e5, 4096.0);
            add(&format!("container_memory_{name}_bytes"), container, shape);
        }
        add(
            "container_fs_writes_bytes_total",
            container,
            Shape::Count(2e5),
        );
    }
    for (place, bound) in BOUNDS.iter().enumerate() {
        let rate = 10.0 * (place + 1) as f64 / BOUNDS.len() as f64;
        add(
            "http_request_duration_seconds_bucket",
            ("le", bound),
            Shape::Count(rate),
        );
    }
    let handler = ("handler", "/api/query");
    add(
        "http_request_duration_seconds_sum",
        handler,
        Shape::Sum(0.6),
    );
    add(
        "http_request_duration_seconds_count",
        handler,
        Shape::Count(10.0),
    );
}

/// The values of one series, scrape by scrape, without end: for benches that never hold all samples.
#[derive(Clone, Debug)]
pub struct Values {
    shape: Shape,
    random: Random,
    state: f64,
}

impl Iterator for Values {
    type Item = f64;

    fn next(&mut self) -> Option<f64> {
        Some(self.shape.next(&mut self.state, &mut self.random))
    }
}

impl DevopsSeries {
    /// Its values, none missed.
    #[must_use]
    pub fn values(&self) -> Values {
        let mut random = Random::new(self.seed.wrapping_mul(0xd6e8_feb8_6659_fd93));
        let state = self.shape.first(&mut random);
        Values {
            shape: self.shape,
            random,
            state,
        }
    }

    /// Its first `count` scrapes, less those that were missed.
    #[must_use]
    pub fn samples(&self, count: usize) -> SampleColumns {
        let mut of_host = Random::new(self.host ^ 0xa24b_aed4_963e_e407);
        let offset_ms = (of_host.bits() % STEP_MS as u64) as i64;
        let mut values = self.values();
        let mut samples = SampleColumns::default();
        for (step, value) in (0..count as i64).zip(&mut values) {
            // Every series of a host draws the same missed scrapes.
            if of_host.unit() >= 0.001 {
                let time_ms = START_MS + (self.start + step) * STEP_MS + offset_ms;
                samples.timestamps.push(time_ms * 1_000_000);
                samples.values.push(value);
            }
        }
        samples
    }
}

impl Shape {
    fn first(self, random: &mut Random) -> f64 {
        match self {
            Shape::Cents(_) => (random.unit() * 1e8).round(),
            Shape::Count(rate) => (random.unit() * rate * 1e5).round(),
            Shape::Walk(low, high, ..)
            | Shape::Fraction(low, high, ..)
            | Shape::Full(low, high, _) => low + random.unit() * (high - low),
            Shape::Constant => (random.unit() * 1e6).round() * 4096.0,
            Shape::Rare(_, max) => (random.bits() % max) as f64 + f64::from(u8::from(max == 1)),
            Shape::Sum(_) => 0.0,
        }
    }

    fn next(self, state: &mut f64, random: &mut Random) -> f64 {
        match self {
            Shape::Cents(rate) => {
                let jitter = 1.0 + 0.15 * random.normal();
                *state += (rate * jitter + random.unit() - 0.5).max(0.0).round();
                *state / 100.0
            }
            Shape::Count(rate) => {
                // Close enough to Poisson: exact for rare events, normal for frequent ones.
                *state += if rate < 5.0 {
                    (0..20).filter(|_| random.unit() < rate / 20.0).count() as f64
                } else {
                    let spread = if rate > 1e5 { 0.2 * rate } else { rate.sqrt() };
                    (rate + spread * random.normal()).max(0.0).round()
                };
                *state
            }
            Shape::Walk(low, high, deviation, unit) => {
                *state = (*state + deviation * random.normal()).clamp(low, high);
                (*state / unit).round() * unit
            }
            Shape::Fraction(low, high, deviation, per) => {
                *state = (*state + deviation * random.normal()).clamp(low, high);
                (*state * per).round() / per
            }
            Shape::Full(low, high, deviation) => {
                *state = (*state + deviation * random.normal()).clamp(low, high);
                *state
            }
            Shape::Constant => *state,
            Shape::Rare(probability, max) => {
                if random.unit() < probability {
                    *state = (random.bits() % max) as f64;
                }
                *state
            }
            Shape::Sum(amount) => {
                *state += amount * (0.5 + random.unit());
                *state
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_have_142_series_that_share_their_times() {
        let series = devops(2);
        assert_eq!(series.len(), 284);
        assert!(series.windows(2).all(|w| w[0].labels < w[1].labels));
        let first = series[0].samples(500);
        let same_host = series.iter().rfind(|s| s.host == series[0].host);
        let other = same_host.expect("it has 142").samples(500);
        assert_eq!(first.timestamps, other.timestamps);
    }

    #[test]
    fn a_host_by_itself_is_the_host_of_the_fleet() {
        let fleet = devops(2);
        let alone = host(1);
        assert_eq!(alone.len(), SERIES_PER_HOST);
        assert_eq!(pod(7).len(), SERIES_PER_POD);
        let known = fleet.iter().find(|s| s.labels == alone[5].labels);
        assert_eq!(
            known.expect("it is in the fleet").samples(50).values,
            alone[5].samples(50).values
        );
    }
}
