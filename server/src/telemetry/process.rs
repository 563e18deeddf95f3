//! Figures of the process, under the names that every client library gives them.

use std::fs;

use chronolith_engine::model::MetricType;

use super::exposition::Exposition;

/// Clock ticks in a second, as `/proc` counts CPU time; fixed at 100 on every Linux we run on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds what `/proc` tells. Elsewhere than on Linux nothing is added.
pub(super) fn write(out: &mut Exposition) {
    if let Some(memory) = memory() {
        out.gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            memory.resident,
        );
        out.gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            memory.virtual_size,
        );
    }
    if let Some(stat) = stat() {
        out.counter(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
            stat.cpu_seconds,
        );
        if let Some(booted) = boot_time_seconds() {
            out.gauge(
                "process_start_time_seconds",
                "Start time of the process since the epoch in seconds.",
                booted + stat.started_after_boot_seconds,
            );
        }
        let threads = out.family(
            "process_threads",
            "Number of threads of the process.",
            MetricType::Gauge,
        );
        threads.row(&[], stat.threads);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        out.gauge(
            "process_open_fds",
            "Number of open file descriptors.",
            entries.count() as f64,
        );
    }
    if let Some(limit) = descriptor_limit() {
        out.gauge(
            "process_max_fds",
            "Maximum number of open file descriptors.",
            limit,
        );
    }
}

struct Memory {
    resident: f64,
    virtual_size: f64,
}

fn memory() -> Option<Memory> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let kib = |key: &str| -> Option<f64> {
        let line = text.lines().find(|l| l.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    Some(Memory {
        resident: kib("VmRSS:")? * 1024.0,
        virtual_size: kib("VmSize:")? * 1024.0,
    })
}

struct Stat {
    cpu_seconds: f64,
    threads: f64,
    started_after_boot_seconds: f64,
}

fn stat() -> Option<Stat> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |index: usize| -> Option<f64> { fields.get(index)?.parse().ok() };
    Some(Stat {
        cpu_seconds: (number(11)? + number(12)?) / TICKS_PER_SECOND,
        threads: number(17)?,
        started_after_boot_seconds: number(19)? / TICKS_PER_SECOND,
    })
}

fn boot_time_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find(|l| l.starts_with("btime "))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn descriptor_limit() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find(|l| l.starts_with("Max open files"))?;
    line.split_whitespace().nth(3)?.parse().ok()
}
