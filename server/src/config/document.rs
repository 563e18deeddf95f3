//! The table of `docs/configuration.md`, made from the table of settings.

use super::TABLE;

/// One row a setting: key, flag, variable, kind, default, meaning.
#[must_use]
pub fn settings_markdown() -> String {
    let mut out = String::from(
        "| key | flag | environment variable | value | default | what it does |\n|---|---|---|---|---|---|\n",
    );
    for setting in TABLE {
        let default = match setting.default {
            "" => "none".to_owned(),
            text => format!("`{text}`"),
        };
        out.push_str(&format!(
            "| `{}` | `--{}` | `{}` | {} | {default} | {} |\n",
            setting.key,
            setting.flag(),
            setting.variable(),
            setting.kind,
            setting.help.trim(),
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// `UPDATE_DOCS=1 cargo test -p chronolith-server settings_are_documented` rewrites the table.
    #[test]
    fn settings_are_documented() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
        let page = std::fs::read_to_string(&path).unwrap();
        let (begin, end) = (
            "<!-- settings: made from the code -->\n",
            "<!-- end of settings -->",
        );
        let (before, rest) = page.split_once(begin).expect("begin of the table");
        let (table, after) = rest.split_once(end).expect("end of the table");
        let expected = settings_markdown();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            let page = format!("{before}{begin}{expected}{end}{after}");
            std::fs::write(&path, page).unwrap();
        } else {
            assert_eq!(
                table, expected,
                "docs/configuration.md; UPDATE_DOCS=1 rewrites it"
            );
        }
    }
}
