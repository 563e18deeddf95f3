//! What a process has used: CPU time and memory, as the kernel counts them.

/// CPU seconds of this process, its threads included (in steps of 10 ms).
#[must_use]
pub fn process_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or("");
    let ticks: u64 = after_name
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks as f64 / 100.0
}

/// CPU seconds of the calling thread. Counted when the thread is switched or ticks: good for
/// stretches of tens of milliseconds and more.
#[must_use]
pub fn thread_cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = stat.split_whitespace().next().and_then(|n| n.parse().ok());
    nanoseconds.unwrap_or(0_u64) as f64 / 1e9
}

/// CPU seconds of the threads that live now, by name.
#[must_use]
pub fn thread_cpu_by_name() -> Vec<(String, f64)> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let threads = tasks.flatten().filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        let nanoseconds: u64 = stat.split_whitespace().next()?.parse().ok()?;
        Some((name.trim().to_owned(), nanoseconds as f64 / 1e9))
    });
    threads.collect()
}

/// Bytes of memory of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    /// Of its own: heap and stacks, mapped files not included.
    pub anonymous: u64,
    /// With the pages of mapped files that are in memory.
    pub resident: u64,
}

impl Memory {
    /// As it is now.
    #[must_use]
    pub fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|rest| rest.split_whitespace().next());
            number.and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
        };
        Self {
            anonymous: field("RssAnon:"),
            resident: field("VmRSS:"),
        }
    }
}
