//! Machines and processes: processor, memory, disk, network.

use super::pipelines::PipelineSeries;
use super::table::{Behaviour, SeriesTable, Slot};
use super::{Sampler, pages, rounded};
use crate::incidents::{LEAK_HOST, LEAK_START_PERCENT, RESTART_INSTANCE, Script};
use crate::random::{Drift, Random};
use crate::season::{DAY_MS, HOUR_MS, demand};
use crate::world::{REGIONS, WAREHOUSE, WORKERS_PER_RUNNER};

const NODE_PORT: u16 = 9100;
const RUNNER_MEMORY_BYTES: f64 = 16.0 * 1024.0 * 1024.0 * 1024.0;

/// Registers all machines and service processes.
pub(crate) fn register(
    table: &mut SeriesTable,
    seed: u64,
    start_ms: i64,
    script: &Script,
    pipelines: &PipelineSeries,
) -> Vec<Sampler> {
    let mut samplers = Vec::new();
    for region in &REGIONS {
        let load = Load::Runner {
            active: pipelines.active_slots(region.name),
            leaking: region.runner == LEAK_HOST,
        };
        let host = Host::register(table, seed, script, region.runner, load);
        samplers.push(Sampler::Host(Box::new(host)));
    }
    let warehouse = Host::register(table, seed, script, WAREHOUSE, Load::Warehouse);
    samplers.push(Sampler::Host(Box::new(warehouse)));

    let services = [
        ("pipeline-runner", "runner-eu-1", 9102),
        ("pipeline-runner", "runner-us-1", 9102),
        ("pipeline-runner", "runner-apac-1", 9102),
        ("model-gateway", "gateway-1", 9103),
        ("dataflow", "dataflow-1", 9105),
        ("broker", "broker-1", 9106),
    ];
    for (index, (job, host, port)) in services.into_iter().enumerate() {
        let target = table.target(job, host, port);
        let mut slot = |name, behaviour| table.plain(target, name, behaviour, &[]);
        let slots = ProcessSlots {
            cpu_seconds: slot("process_cpu_seconds_total", Behaviour::Counter),
            resident: slot("process_resident_memory_bytes", Behaviour::Gauge),
            start: slot("process_start_time_seconds", Behaviour::Gauge),
        };
        let mut random = Random::new(seed, "process", index as u64);
        samplers.push(Sampler::Process(Process {
            target,
            slots,
            leaking: host == LEAK_HOST,
            restarts: table.targets[target].instance == RESTART_INSTANCE,
            started_ms: start_ms - (random.between(2.0, 9.0) * DAY_MS as f64) as i64,
            base_bytes: random.between(0.25, 0.7) * 1024.0 * 1024.0 * 1024.0,
            drift: Drift::new(0.98, 9e6),
            script: script.clone(),
            random,
        }));
    }
    samplers
}

/// What keeps a machine busy.
#[derive(Debug, Clone)]
enum Load {
    /// The runs of its region.
    Runner { active: Vec<Slot>, leaking: bool },
    /// The demand of all regions, and its nightly clean-up.
    Warehouse,
}

/// One machine.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) target: usize,
    load: Load,
    script: Script,
    random: Random,
    cpu: (Slot, Drift),
    memory: (Slot, Drift),
    disk: Slot,
    disk_read: Slot,
    disk_written: Slot,
    received: Slot,
    sent: Slot,
    disk_base_percent: f64,
}

impl Host {
    fn register(
        table: &mut SeriesTable,
        seed: u64,
        script: &Script,
        host: &str,
        load: Load,
    ) -> Self {
        let target = table.target("node", host, NODE_PORT);
        let mut random = Random::new(seed, host, 1);
        let mut gauge =
            |name, labels: &[(&str, &str)]| table.plain(target, name, Behaviour::Gauge, labels);
        let cpu = (gauge("cpu_usage_percent", &[]), Drift::new(0.9, 2.5));
        let memory = (gauge("memory_usage_percent", &[]), Drift::new(0.97, 0.4));
        let disk = gauge("disk_usage_percent", &[("mountpoint", "/data")]);
        let mut counter =
            |name, labels: &[(&str, &str)]| table.plain(target, name, Behaviour::Counter, labels);
        Self {
            target,
            load,
            script: script.clone(),
            cpu,
            memory,
            disk,
            disk_read: counter("disk_read_bytes_total", &[("device", "nvme0n1")]),
            disk_written: counter("disk_written_bytes_total", &[("device", "nvme0n1")]),
            received: counter("network_receive_bytes_total", &[("device", "eth0")]),
            sent: counter("network_transmit_bytes_total", &[("device", "eth0")]),
            disk_base_percent: random.between(48.0, 66.0),
            random,
        }
    }

    pub(crate) fn sample(&mut self, at_ms: i64, elapsed_ms: i64, slots: &mut [f64]) {
        let vacuum = matches!(self.load, Load::Warehouse) && Script::is_vacuum(at_ms);
        // Busy share, from 0 to about 1.
        let busy = match &self.load {
            Load::Runner { active, .. } => {
                active.iter().map(|slot| slots[*slot]).sum::<f64>() / WORKERS_PER_RUNNER as f64
            }
            Load::Warehouse => {
                let all: f64 = REGIONS
                    .iter()
                    .map(|region| demand(at_ms, region.utc_offset_hours))
                    .sum();
                all / 6.0
            }
        };
        let cpu_noise = self.cpu.1.step(&mut self.random);
        let cpu = if vacuum { 85.0 } else { 9.0 + 58.0 * busy } + cpu_noise;
        slots[self.cpu.0] = rounded(cpu.clamp(0.5, 100.0), 2);

        let memory_noise = self.memory.1.step(&mut self.random);
        let memory = match &self.load {
            Load::Runner { leaking: true, .. } => {
                LEAK_START_PERCENT + 0.6 * busy + self.script.leaked_percent(at_ms)
            }
            Load::Runner { leaking: false, .. } => 49.0 + 3.0 * busy,
            Load::Warehouse => 66.0 + 4.0 * busy,
        };
        slots[self.memory.0] = rounded((memory + memory_noise).clamp(1.0, 99.5), 2);
        slots[self.disk] = rounded(self.disk_percent(at_ms), 2);

        let seconds = elapsed_ms as f64 / 1e3;
        let mut grow = |slot: Slot, bytes_per_second: f64, random: &mut Random| {
            slots[slot] += pages(bytes_per_second * seconds * random.log_normal(1.0, 0.25));
        };
        let io = if vacuum { 6.0 } else { 0.15 + busy };
        grow(self.disk_read, 9e6 * io, &mut self.random);
        grow(self.disk_written, 6e6 * io, &mut self.random);
        grow(self.received, 4e6 * (0.1 + busy), &mut self.random);
        grow(self.sent, 3e6 * (0.1 + busy), &mut self.random);
    }

    /// Grows by four tenths of a percent a day, and saws by one percent between nightly clean-ups.
    fn disk_percent(&self, at_ms: i64) -> f64 {
        let days = at_ms.rem_euclid(60 * DAY_MS) as f64 / DAY_MS as f64;
        let since_cleanup = (at_ms - 3 * HOUR_MS).rem_euclid(DAY_MS) as f64 / DAY_MS as f64;
        self.disk_base_percent + 0.4 * days + since_cleanup
    }
}

#[derive(Debug, Clone)]
struct ProcessSlots {
    cpu_seconds: Slot,
    resident: Slot,
    start: Slot,
}

/// One service process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    pub(crate) target: usize,
    slots: ProcessSlots,
    leaking: bool,
    restarts: bool,
    started_ms: i64,
    base_bytes: f64,
    drift: Drift,
    script: Script,
    random: Random,
}

impl Process {
    pub(crate) fn sample(&mut self, at_ms: i64, elapsed_ms: i64, slots: &mut [f64]) {
        let restarted = self.restarts && at_ms >= self.script.restart_ms;
        let started_ms = if restarted {
            self.script.restart_ms
        } else {
            self.started_ms
        };
        slots[self.slots.start] = started_ms as f64 / 1e3;
        let leaked = if self.leaking {
            RUNNER_MEMORY_BYTES * self.script.leaked_percent(at_ms) / 100.0
        } else {
            0.0
        };
        let noise = self.drift.step(&mut self.random);
        slots[self.slots.resident] = pages(self.base_bytes + leaked + noise);
        let busy_seconds = elapsed_ms as f64 / 1e3 * self.random.between(0.05, 0.35);
        // The kernel counts processor time in hundredths of a second.
        let total = slots[self.slots.cpu_seconds] + busy_seconds;
        slots[self.slots.cpu_seconds] = rounded(total, 2);
    }
}
