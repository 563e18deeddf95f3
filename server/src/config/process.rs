//! The section `process:`: what happens to log records and spans before they are stored.

use super::ConfigError;
use super::file::FileConfig;
use crate::process::{ProcessConfig, Processor};

/// Reads the section of a file; the defaults if it has none.
///
/// # Errors
/// An unknown key, a wrong value, a regex that is none.
pub fn process(file: &FileConfig) -> Result<ProcessConfig, ConfigError> {
    let Some(section) = file.section("process") else {
        return Ok(ProcessConfig::default());
    };
    if section.value.is_null() {
        return Ok(ProcessConfig::default());
    }
    let refuse = |message: String| ConfigError::Syntax {
        path: file.path.clone(),
        message: format!("section process: at line {}: {message}", section.line),
    };
    let config: ProcessConfig =
        serde_json::from_value(section.value.clone()).map_err(|e| refuse(e.to_string()))?;
    Processor::new(&config).map_err(refuse)?;
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_section_is_checked_with_its_regexes() {
        let read = |text: &str| {
            let file = FileConfig::parse(Path::new("c.yml"), text.to_owned()).unwrap();
            process(&file).map_err(|e| e.to_string())
        };
        assert!(read("retention: 1d\n").unwrap().detect_level);
        let text = "process:\n  detect_level: false\n  redact: {presets: [cards]}\n  rules:\n    - {when: {body: x}, drop: true}\n    - {parse: {regex: '(?P<a>.)'}}\n";
        let config = read(text).unwrap();
        assert_eq!((config.detect_level, config.rules.len()), (false, 2));
        for (text, part) in [
            ("process:\n  redakt: {}\n", "unknown field `redakt`"),
            (
                "process:\n  rules: [{drop: true, when: {body: '('}}]\n",
                "line 1",
            ),
            (
                "process:\n  redact: {presets: [x]}\n",
                "unknown variant `x`",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
