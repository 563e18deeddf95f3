//! The command line.
//!
//! The flags of `serve` come from the table of settings ([`crate::config::TABLE`]); the other
//! commands are spelled out here.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Args, Command as ClapCommand, FromArgMatches, Parser, Subcommand};

use chronolith_engine::store::ReadBack;

use crate::config::{ByteSize, Setting, SettingValue as _, TABLE};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "chronolith",
    version,
    about = "Stores metrics, logs and traces and answers in PromQL and SQL"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the binary can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the server
    Serve(Box<ServeArgs>),
    /// Fill a store with sample telemetry, start the server, run one query per language
    Demo(DemoArgs),
    /// Evaluate a PromQL expression
    Promql(QueryArgs),
    /// Run a SQL statement
    Sql(QueryArgs),
    /// Evaluate a LogQL expression
    Logql(LogqlArgs),
    /// Evaluate a TraceQL expression: a search or a metrics query
    Traceql(TraceqlArgs),
    /// Export a store to Parquet, CSV or JSON lines
    Export(ExportArgs),
    /// Import Parquet, CSV, JSON lines, OpenMetrics or Influx lines (not built yet)
    Import(Unbuilt),
    /// Run test scripts
    #[command(subcommand)]
    Test(TestCommand),
    /// Check files without starting anything
    #[command(subcommand)]
    Check(CheckCommand),
    /// Check every checksum of a store, in use or not, of a backup or a snapshot
    Verify {
        /// The directory.
        dir: PathBuf,
    },
    /// Print the content of a WAL file, segment, manifest or state snapshot
    Inspect {
        /// The file.
        file: PathBuf,
    },
    /// Make or renew a consistent, incremental, verified backup of a store, in use or not
    Backup(BackupArgs),
    /// Make a store of a backup
    Restore(RestoreArgs),
    /// Forecast a PromQL expression (not built yet)
    Forecast(Unbuilt),
    /// Find anomalies in a PromQL expression (not built yet)
    Anomalies(Unbuilt),
}

/// What can be tested.
#[derive(Debug, Subcommand)]
pub enum TestCommand {
    /// Run promqltest scripts on a fresh in-memory store
    Promql {
        /// The scripts.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run logqltest scripts and lists of LogQL queries on fresh lines in memory
    Logql {
        /// Scripts, and YAML files with queries.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Check lists of TraceQL queries: those of each group must be valid, fail to parse, …
    Traceql {
        /// YAML files with the groups valid, parse_fails, validate_fails and unsupported.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run rule tests (not built yet)
    Rules(Unbuilt),
}

/// What can be checked.
#[derive(Debug, Subcommand)]
pub enum CheckCommand {
    /// Check a configuration file
    Config {
        /// The file.
        file: PathBuf,
    },
    /// Check rule files (not built yet)
    Rules(Unbuilt),
}

/// Takes any arguments of a command that is not built yet, so that it can say so.
#[derive(Debug, Args)]
pub struct Unbuilt {
    /// Ignored.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    pub rest: Vec<String>,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Directory of the store; a fresh temporary one if not given.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the HTTP API.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9009")]
    pub listen: String,
    /// End after the tour instead of staying up.
    #[arg(long)]
    pub exit: bool,
}

/// Arguments of `promql` and `sql`, and of the other languages.
#[derive(Debug, Args)]
pub struct QueryArgs {
    /// The expression or statement.
    pub query: String,
    /// Ask this server; without it the directory is read.
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    pub url: Option<String>,
    /// Read this directory, beside a live server or without one.
    #[arg(long, value_name = "DIR", default_value = "./chronolith-data")]
    pub data_dir: PathBuf,
    /// How to print the answer: table, json, csv, arrow or parquet.
    #[arg(long, default_value = "table")]
    pub format: String,
    /// Time of an instant query: Unix seconds or RFC 3339; now if not given.
    #[arg(long)]
    pub time: Option<String>,
    /// Start of a range query.
    #[arg(long, requires = "end")]
    pub start: Option<String>,
    /// End of a range query.
    #[arg(long, requires = "start")]
    pub end: Option<String>,
    /// Step of a range query.
    #[arg(long, default_value = "1m")]
    pub step: String,
    /// Whose data.
    #[arg(long, default_value = "default")]
    pub tenant: String,
    /// Features to turn on, by Prometheus' names.
    #[arg(long, value_delimiter = ',')]
    pub enable_feature: Vec<String>,
}

/// Arguments of `traceql`.
#[derive(Debug, Args)]
pub struct TraceqlArgs {
    /// What all languages take.
    #[command(flatten)]
    pub query: QueryArgs,
    /// The most traces of a search.
    #[arg(long, default_value_t = 20)]
    pub limit: usize,
    /// The most spans shown of each spanset that was found; 0 for all.
    #[arg(long, default_value_t = 3)]
    pub spans: usize,
}

/// Arguments of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Which signals.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "metrics,logs,spans",
        value_name = "NAMES"
    )]
    pub signal: Vec<String>,
    /// Only series and streams that this selector matches: `{job="api"}`.
    #[arg(long = "match", value_name = "SELECTOR")]
    pub matcher: Option<String>,
    /// From this time on: Unix seconds or RFC 3339.
    #[arg(long)]
    pub start: Option<String>,
    /// Up to this time.
    #[arg(long)]
    pub end: Option<String>,
    /// Where to: a new directory, or one that holds an earlier run of the same export.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// parquet, csv or jsonl.
    #[arg(long, default_value = "parquet")]
    pub format: String,
    /// The store, in use by a server or not.
    #[arg(long, value_name = "DIR", default_value = "./chronolith-data")]
    pub data_dir: PathBuf,
    /// Whose data.
    #[arg(long, default_value = "default")]
    pub tenant: String,
}

/// Arguments of `logql`.
#[derive(Debug, Args)]
pub struct LogqlArgs {
    /// What all languages take.
    #[command(flatten)]
    pub query: QueryArgs,
    /// The most lines of an answer.
    #[arg(long, default_value_t = 100)]
    pub limit: usize,
    /// The oldest lines first rather than the newest.
    #[arg(long)]
    pub forward: bool,
}

/// Arguments of `backup`.
#[derive(Debug, Args)]
pub struct BackupArgs {
    /// Where the backup goes: an empty directory, or a backup of the same store to be renewed.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// The store, in use by a server or not.
    #[arg(long, value_name = "DIR", default_value = "./chronolith-data")]
    pub data_dir: PathBuf,
    /// Have this server make the backup, into a directory of its machine (needs its admin API).
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    pub url: Option<String>,
    /// What is read back from the target and compared: all, copied (now), or only the ends of files.
    #[arg(long, value_name = "WHAT", default_value = "all")]
    pub read_back: ReadBackArg,
    /// Bytes a second that are copied and read back at most, such as 50MiB; as fast as it goes if not
    /// given (a server keeps half of its time for others).
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub rate: Option<u64>,
    /// Give files a second name instead of copying them where the file system can: no time, no space,
    /// no protection against damage of the medium.
    #[arg(long, conflicts_with = "url")]
    pub hard_links: bool,
}

/// Arguments of `restore`.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The backup or snapshot.
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// The store to be: an empty directory, or one in which a restore was interrupted.
    #[arg(long, value_name = "DIR", default_value = "./chronolith-data")]
    pub data_dir: PathBuf,
    /// Bytes a second that are copied and read back at most, such as 50MiB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub rate: Option<u64>,
}

/// How much of a backup is read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ReadBackArg {
    /// Every file.
    #[default]
    All,
    /// The files copied now.
    Copied,
    /// The ends of each file.
    Ends,
}

impl ReadBackArg {
    /// As the engine has it.
    #[must_use]
    pub fn to_engine(self) -> ReadBack {
        match self {
            Self::All => ReadBack::All,
            Self::Copied => ReadBack::Copied,
            Self::Ends => ReadBack::Ends,
        }
    }
}

fn size(text: &str) -> Result<u64, String> {
    ByteSize::parse(text).map(|size| size.0)
}

/// Arguments of `serve`: `--config`, and a flag for each setting.
#[derive(Clone, Debug, Default)]
pub struct ServeArgs {
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// Key of a setting to the text given.
    pub flags: BTreeMap<&'static str, String>,
}

impl ServeArgs {
    /// The text given for a setting, if it was.
    #[must_use]
    pub fn flag(&self, setting: &Setting) -> Option<String> {
        self.flags.get(setting.key).cloned()
    }
}

impl Args for ServeArgs {
    fn augment_args(command: ClapCommand) -> ClapCommand {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("CHRONOLITH_CONFIG")
            .value_parser(clap::value_parser!(PathBuf))
            .help("Configuration file; every flag has a key in it");
        TABLE.iter().fold(command.arg(config), |command, setting| {
            command.arg(flag(setting))
        })
    }

    fn augment_args_for_update(command: ClapCommand) -> ClapCommand {
        Self::augment_args(command)
    }
}

fn flag(setting: &Setting) -> Arg {
    let default = match setting.default {
        "" => String::new(),
        text => format!(" [default: {text}]"),
    };
    let help = format!(
        "{}{default} [env: {}]",
        setting.help.trim(),
        setting.variable()
    );
    let arg = Arg::new(setting.key)
        .long(setting.flag())
        .value_name(setting.kind)
        .help(help);
    match setting.flag_alone {
        Some(meaning) => arg.num_args(0..=1).default_missing_value(meaning),
        None => arg,
    }
}

impl FromArgMatches for ServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self {
            config: matches.get_one::<PathBuf>("config").cloned(),
            flags: BTreeMap::new(),
        };
        for setting in TABLE {
            if let Some(text) = matches.get_one::<String>(setting.key) {
                args.flags.insert(setting.key, text.clone());
            }
        }
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_is_a_flag() {
        let cli = Cli::try_parse_from([
            "chronolith",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--enable-admin-api",
            "--self-scrape",
            "off",
            "--pg-listen=off",
        ])
        .unwrap();
        let Command::Serve(args) = cli.command else {
            panic!("expected serve");
        };
        let given = |key: &str| args.flags.get(key).map(String::as_str);
        assert_eq!(given("listen"), Some("127.0.0.1:0"));
        assert_eq!(given("enable_admin_api"), Some("on"));
        assert_eq!(given("self_scrape"), Some("off"));
        assert_eq!(given("pg_listen"), Some("off"));
        assert_eq!(given("data_dir"), None);
    }
}
