//! Configuration: any text is settings or a refusal that names a line inside of it.

use std::path::Path;

use chronolith_server::config::{ConfigError, FileConfig};
use chronolith_server::scrape::config::ScrapeConfigs;

use crate::Target;

/// A configuration file with its section of scrape jobs.
pub static CONFIG: Target = Target {
    name: "config",
    body: config,
    seeds,
    dictionary: &[
        "scrape_configs:\n",
        "  - job_name: x\n",
        "    static_configs:\n",
        "targets: [a:1]\n",
        "relabel_configs:\n",
        "regex: (.*)\n",
        "action: labelmap\n",
        "global:\n",
        "scrape_interval: 5s\n",
        "listen: ",
        "memory_max: 1GiB\n",
        "&a ",
        "*a",
        "<<: ",
        "!!binary ",
        "|\n",
        "- ",
        "\t",
        "~",
        "{",
        "]",
    ],
};

fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let lines = text.lines().count() as u64 + 1;
    match FileConfig::parse(Path::new("fuzz.yml"), text.to_owned()) {
        Ok(file) => {
            assert!(file.values.values().all(|value| value.line <= lines));
            // Files that the text names are not read here: only its own jobs.
            let section = |name| file.section(name).map(|section| &section.value);
            if let Err(refusal) = ScrapeConfigs::parse(section("global"), section("scrape_configs"))
            {
                assert!(!refusal.is_empty(), "a refusal says why");
            }
        }
        Err(error) => {
            if let ConfigError::UnknownKey { line, .. } | ConfigError::DuplicateKey { line, .. } =
                &error
            {
                assert!((1..=lines).contains(line), "{error}");
            }
            assert!(error.to_string().starts_with("fuzz.yml: "), "{error}");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    [
        "listen: 127.0.0.1:9009\ndata_dir: data\nretention: 15d\n",
        "global:\n  scrape_interval: 15s\n  external_labels: {site: a}\nscrape_configs:\n  - job_name: node\n    honor_labels: true\n    sample_limit: 100\n    static_configs:\n      - targets: [\"a:9100\", \"b:9100\"]\n        labels: {zone: x}\n    relabel_configs:\n      - source_labels: [__address__]\n        regex: \"(.*):.*\"\n        target_label: host\n        replacement: $1\n    metric_relabel_configs:\n      - {action: drop, source_labels: [__name__], regex: go_.*}\n",
        "web:\n  basic_auth_users: {a: b}\nmemory_max: 1GiB\n",
        "lisen: x\n",
    ]
    .map(|text| text.as_bytes().to_vec())
    .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_but_the_last_are_good() {
        let seeds = seeds();
        let (bad, good) = seeds.split_last().unwrap();
        let parse = |bytes: &[u8]| {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            FileConfig::parse(Path::new("fuzz.yml"), text)
        };
        for seed in good {
            let file = parse(seed).unwrap();
            ScrapeConfigs::of(&file).unwrap();
        }
        assert!(parse(bad).is_err());
    }
}
