//! Starts and stops the real binary.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::http::Client;

/// How long a start may take, in a debug build on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// The binary: `CHRONOLITH_BIN`, or the one beside the tests, built if need be.
///
/// # Panics
/// If it cannot be built.
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("CHRONOLITH_BIN") {
            return PathBuf::from(path);
        }
        let test = std::env::current_exe().expect("path of the test");
        let profile_dir = test.ancestors().nth(2).expect("target directory");
        // Cargo does not build the binaries of other packages for a test. When it is up to date
        // this takes a moment only.
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--package", "chronolith-server"]);
        build.args(["--bin", "chronolith", "--target-dir"]);
        build.arg(profile_dir.parent().expect("target directory"));
        if profile_dir.ends_with("release") {
            build.arg("--release");
        }
        let status = build
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .expect("cargo");
        assert!(status.success(), "cannot build the server");
        profile_dir.join("chronolith")
    })
}

/// Runs the binary to its end.
///
/// # Panics
/// If it cannot be started.
pub fn run(args: &[&str]) -> Output {
    command(args).output().expect("run the binary")
}

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    command.args(args);
    // Settings of whoever runs the tests must not leak in.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHRONOLITH_") {
            command.env_remove(name);
        }
    }
    command
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    address: String,
    dir: Arc<TempDir>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts one on a fresh directory, with more flags.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start(flags: &[&str]) -> Self {
        let dir = TempDir::new().expect("temporary directory");
        Self::start_in(Arc::new(dir), flags)
    }

    /// Starts one with a configuration file, which lies beside the data as `chronolith.yml`, and more
    /// flags.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start_with(config: &str, flags: &[&str]) -> Self {
        let dir = TempDir::new().expect("temporary directory");
        let file = dir.path().join("chronolith.yml");
        std::fs::write(&file, config).expect("write the configuration");
        let file = file.to_str().expect("plain path").to_owned();
        let mut all = vec!["--config", &file];
        all.extend(flags);
        Self::start_in(Arc::new(dir), &all)
    }

    /// Starts one on a directory that may have been used before.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn start_in(dir: Arc<TempDir>, flags: &[&str]) -> Self {
        let data = dir.path().join("data");
        let data = data.to_str().expect("plain path");
        let mut args = vec!["serve", "--data-dir", data, "--listen", "127.0.0.1:0"];
        for listener in ["--otlp-http-listen", "--otlp-grpc-listen"] {
            if !flags.contains(&listener) {
                args.extend([listener, "off"]);
            }
        }
        if !flags.contains(&"--self-scrape") {
            args.extend(["--self-scrape", "off"]);
        }
        args.extend(flags);
        let mut child = command(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the binary");
        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = mpsc::channel();
        let stdout = child.stdout.take().expect("piped");
        let stderr = child.stderr.take().expect("piped");
        collect(stdout, Arc::clone(&log), Some(found));
        collect(stderr, Arc::clone(&log), None);
        let Ok(address) = address.recv_timeout(START_TIMEOUT) else {
            let _ = child.kill();
            panic!("no start: {}", log.lock().expect("log"));
        };
        Self {
            child,
            address,
            dir,
            log,
        }
    }

    /// A client for it.
    pub fn client(&self) -> Client {
        Client::new(&self.address)
    }

    /// `host:port`
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its directory, to start another one in.
    pub fn dir(&self) -> Arc<TempDir> {
        Arc::clone(&self.dir)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote so far, both streams.
    ///
    /// # Panics
    /// If a reader panicked.
    pub fn log(&self) -> String {
        self.log.lock().expect("log").clone()
    }

    /// Sends SIGTERM and waits; answers the status and how long it took.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub fn stop(self) -> (ExitStatus, Duration) {
        let signal = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status();
        assert!(signal.expect("kill").success());
        self.wait()
    }

    /// Waits until it ends by itself; answers the status and how long it took.
    ///
    /// # Panics
    /// If it does not end within a minute.
    pub fn wait(mut self) -> (ExitStatus, Duration) {
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return (status, began.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("did not end: {}", self.log());
    }

    /// Kills it as a power cut would the process.
    ///
    /// # Panics
    /// If it is gone already.
    pub fn kill(mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a stream into the log, and reports the address once its line comes.
fn collect(
    mut stream: impl std::io::Read + Send + 'static,
    log: Arc<Mutex<String>>,
    mut found: Option<mpsc::Sender<String>>,
) {
    std::thread::spawn(move || {
        let mut own = String::new();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = stream.by_ref().read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..count]);
            log.lock().expect("log").push_str(&text);
            own.push_str(&text);
            let line = own.lines().find_map(|l| l.strip_prefix("listening on "));
            if let (Some(url), Some(_)) = (line, &found)
                && own.ends_with('\n')
            {
                let address = url.split("://").nth(1).unwrap_or(url).to_owned();
                if let Some(found) = found.take() {
                    let _ = found.send(address);
                }
            }
        }
    });
}
